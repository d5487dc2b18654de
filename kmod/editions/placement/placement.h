/* SPDX-License-Identifier: GPL-2.0 */
/*
 * placement.h - the subsystem `placement`: on which CPU a task goes on that has been woken
 *
 *	select_task_rq_fair	the CPU for a task of the normal scheduling class that wakes up, was just made, or runs
 *				a new program. prev_cpu: where it has run last
 *
 * The answer is about what is fast, and never about what is right: any CPU will do that the task may use, and whether a
 * task waits for the one it has got is the scheduler's business. So every edition is correct that gives such a one;
 * one that is not allowed, or is being unplugged, the caller replaces by another.
 *
 * Called with interrupts off and the task's pi_lock held, which keeps cpus_ptr as it is; by who wakes it, in interrupts
 * too, hundreds of thousands of times a second. An edition must not sleep, print, nor wake anybody, and must not take a
 * lock under which others do. Not called for a task that may use one CPU only. The object of a call would be a task;
 * nothing about it outlives the call, so the subsystem has none.
 */
#ifndef _DYNAMOS_PLACEMENT_H
#define _DYNAMOS_PLACEMENT_H

#include <linux/sched.h>

#include <dynamos/edition.h>

#define DYNAMOS_PROTOTYPE_select_task_rq_fair						\
	DYNAMOS_RETURNS(int, (struct task_struct *task, int prev_cpu, int wake_flags), (task, prev_cpu, wake_flags))

DYNAMOS_DECLARE_SUBSYSTEM(placement);
DYNAMOS_DECLARE_FUNCTION(select_task_rq_fair);

#endif /* _DYNAMOS_PLACEMENT_H */
