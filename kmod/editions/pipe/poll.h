/* SPDX-License-Identifier: GPL-2.0 */
/*
 * poll.h - a reader who is about to sleep looks for a few microseconds first whether something comes
 *
 * For programs that talk through pipes by turns: an answer that comes within microseconds is read without the sleep,
 * the wakeup and the two context switches that the original takes for it. The CPU is busy meanwhile, so it is done only
 * while nobody else wants this one, and on a pipe where it mostly pays.
 */
#ifndef _DYNAMOS_PIPE_POLL_H
#define _DYNAMOS_PIPE_POLL_H

#include <linux/atomic.h>
#include <linux/cpumask.h>
#include <linux/ktime.h>
#include <linux/moduleparam.h>
#include <linux/processor.h>
#include <linux/sched/stat.h>
#include <linux/wait.h>

#include "history.h"

static unsigned int poll_max_us = 20;
module_param(poll_max_us, uint, 0644);
MODULE_PARM_DESC(poll_max_us, "how long a reader of an empty pipe looks for data before it sleeps, in microseconds, up to 1000");

static atomic_t poll_hits;
module_param_named(poll_hits, poll_hits.counter, int, 0444);
MODULE_PARM_DESC(poll_hits, "how often data came while a reader of an empty pipe looked for it");

#define POLL_MOST_US 1000U

/* After something came, nothing may come so many times in a row before it does not pay any more. */
#define CREDIT 8

/* One pipe's history, by its readers. Two of them may count one miss as one. */
struct polling {
	u32 credit;			/* 0: it does not pay, as far as is known */
	struct trial trial;
};

static inline bool is_empty(const struct pipe_inode_info *pipe)
{
	return !slots_in_use(pipe);
}

/*
 * Not while somebody else wants this CPU: it may be the very writer, and on a machine with one it must be. Nor past
 * readers who sleep already: what comes is theirs.
 */
static inline bool may_look(struct pipe_inode_info *pipe)
{
	if (num_online_cpus() < 2 || !single_task_running() || need_resched())
		return false;
	/* Without a barrier: who begins to sleep just now may be overtaken once. */
	return !waitqueue_active(&pipe->rd_wait);
}

static inline bool may_poll(struct kiocb *iocb, const struct iov_iter *to)
{
	struct pipe_inode_info *pipe = pipe_of(iocb->ki_filp);

	return is_empty(pipe) && iov_iter_count(to) && may_look(pipe) && may_wait(iocb, pipe);
}

/* Return: something came. */
static inline bool look_until(struct pipe_inode_info *pipe, ktime_t end)
{
	while (is_empty(pipe) && READ_ONCE(pipe->writers)) {
		if (!may_look(pipe) || signal_pending(current) || ktime_after(ktime_get(), end))
			break;
		cpu_relax();
	}
	return !is_empty(pipe);
}

/* Before a read that may_poll(): look for data if that has paid on this pipe, or it is time to try. */
static inline void poll_pipe(struct polling *polling, struct pipe_inode_info *pipe)
{
	u32 credit = READ_ONCE(polling->credit);
	bool paid;

	if (!credit && !trial_is_due(&polling->trial))
		return;
	paid = look_until(pipe, ktime_add_us(ktime_get(), min(READ_ONCE(poll_max_us), POLL_MOST_US)));
	if (paid)
		atomic_inc(&poll_hits);
	if (!credit)
		trial_ended(&polling->trial, paid);
	WRITE_ONCE(polling->credit, paid ? CREDIT : credit ? credit - 1 : 0);
}

#endif /* _DYNAMOS_PIPE_POLL_H */
