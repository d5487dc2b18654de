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

static inline bool may_poll(struct kiocb *iocb, const struct iov_iter *to)
{
	const struct pipe_inode_info *pipe = pipe_of(iocb->ki_filp);

	/* On one CPU, who writes cannot run while we look. */
	return num_online_cpus() > 1 && is_empty(pipe) && iov_iter_count(to) && may_wait(iocb, pipe);
}

/* Return: something came. A CPU that somebody else is to have makes this end, too. */
static inline bool look_until(const struct pipe_inode_info *pipe, ktime_t end)
{
	while (is_empty(pipe) && READ_ONCE(pipe->writers)) {
		if (need_resched() || signal_pending(current) || ktime_after(ktime_get(), end))
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
