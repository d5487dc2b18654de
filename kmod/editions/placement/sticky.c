// SPDX-License-Identifier: GPL-2.0
/*
 * placement/sticky - who wakes up goes on where it was, if that CPU is idle
 *
 * What it has in the caches there is worth more than being near the one who woke it. The original thinks so, too, but
 * only among CPUs that share their last cache: on a machine with several such groups, it moves a task that many others
 * wake (a server, a logger) to the group of each one of them in turn.
 *
 * It harms those who talk by turns and live far from each other: the original brings them together, and here both stay.
 * What the original notes about who wakes whom, it does not note of calls that it is not asked about.
 */
#include <linux/sched/topology.h>

#include "cpus.h"
#include "placement.h"

/* The scheduler asserts that its own names of these flags, WF_TTWU here, are the same bits; those are not to be had. */
static bool is_wakeup(int wake_flags)
{
	return wake_flags & SD_BALANCE_WAKE;
}

static int stay(struct task_struct *task, int prev_cpu, int wake_flags)
{
	/* Who is new, or begins a new program, has nothing in any cache: the original finds the idlest place for it. */
	if (!is_wakeup(wake_flags) || !is_allowed(task, prev_cpu) || !claim(prev_cpu))
		return dynamos_original(select_task_rq_fair)(task, prev_cpu, wake_flags);
	count_answer();
	return prev_cpu;
}

DYNAMOS_REPLACE(sticky, select_task_rq_fair, stay);

DYNAMOS_EDITION(placement, sticky,
		DYNAMOS_REPLACEMENT(sticky, select_task_rq_fair));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition placement/sticky: who wakes up goes on where it was");
MODULE_LICENSE("GPL");
