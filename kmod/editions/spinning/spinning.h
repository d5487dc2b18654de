/* SPDX-License-Identifier: GPL-2.0 */
/*
 * spinning.h - the subsystem `spinning`: how long who wants a mutex spins before it sleeps
 *
 *	mutex_spin_on_owner	spins while @owner has @lock and runs; says whether it pays to go on without sleep
 *
 * Called by who found the mutex taken by a task that runs. True: the mutex has another owner or none, try to take it,
 * and spin on if that fails. False: stop, and go the way of who sleeps.
 *
 * False is a right answer at any time. The original gives it whenever the owner does not run or its own CPU is wanted,
 * which may be so at any instant; so callers must be ready for it. They take nothing of the mutex before they ask, and
 * lose nothing when they stop: not the mutex, nor a mutex that is handed over to them, as that is marked in the mutex
 * itself and found by who sleeps before it goes to sleep. On their way there they look for signals and for what wound/
 * wait mutexes (@ww_ctx) have to be told, as they do after any spinning that has failed. True is right only when @owner
 * does not have @lock any more: an edition that says so by itself makes its caller spin without an end.
 *
 * Called with preemption disabled, which is also what keeps @owner from going away, by a task that may be about to
 * sleep (its state is not TASK_RUNNING then): an edition must neither sleep nor take a mutex. @ww_ctx and @waiter are
 * NULL for most: the former but for wound/wait mutexes, the latter but for who has been woken as the first in line.
 * The function is static in kernel/locking/mutex.c, and whole: the kernel has it not inlined, for profiles to show it.
 *
 * The object of a call would be the mutex. Nothing says when one dies, so the subsystem has none.
 */
#ifndef _DYNAMOS_SPINNING_H
#define _DYNAMOS_SPINNING_H

#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/ww_mutex.h>

#include <dynamos/edition.h>

/* Its own to kernel/locking; passed on, and not looked into. */
struct mutex_waiter;

#define DYNAMOS_PROTOTYPE_mutex_spin_on_owner						\
	DYNAMOS_RETURNS(bool, (struct mutex *lock, struct task_struct *owner, struct ww_acquire_ctx *ww_ctx, \
			       struct mutex_waiter *waiter), (lock, owner, ww_ctx, waiter))

DYNAMOS_DECLARE_SUBSYSTEM(spinning);
DYNAMOS_DECLARE_FUNCTION(mutex_spin_on_owner);

#endif /* _DYNAMOS_SPINNING_H */
