/* SPDX-License-Identifier: GPL-2.0 */
/*
 * gather.h - let a reader wait a moment, so that it finds many small messages where it would find one
 *
 * As network cards hold back an interrupt while packets come in fast. The original wakes the reader for the first
 * message; reader and writer then take turns, message by message. Here the reader sleeps for a moment first, whatever
 * is in the pipe, and the moment ends early when
 *
 *	- all that it asked for is there,
 *	- half of the pipe's slots are in use: the writer is never to sleep for a reader who could go on,
 *	- somebody writes a page or more at once: that is not what this is for,
 *	- a writer closes its end, or a signal comes.
 *
 * It lasts to its end, and no longer, when bytes come or go by splice() and the like, which pass no gate here, and when
 * a write that began before it sleeps on a full pipe.
 *
 * How long the moment is, each pipe's history says. It begins with gather_min_us, is doubled up to gather_max_us while
 * messages keep coming to its end, halved when they do not, and below gather_min_us there is none until the next trial.
 */
#ifndef _DYNAMOS_PIPE_GATHER_H
#define _DYNAMOS_PIPE_GATHER_H

#include <linux/atomic.h>
#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/rcuwait.h>

#include "history.h"

static unsigned int gather_min_us = 50;
module_param(gather_min_us, uint, 0644);
MODULE_PARM_DESC(gather_min_us, "the first moment that a reader of a pipe waits for more, in microseconds");

static unsigned int gather_max_us = 500;
module_param(gather_max_us, uint, 0644);
MODULE_PARM_DESC(gather_max_us, "the longest moment that a reader of a pipe waits for more, in microseconds, up to 10000");

static atomic_t gather_moments;
module_param_named(gather_moments, gather_moments.counter, int, 0444);
MODULE_PARM_DESC(gather_moments, "how often a reader of a pipe has waited a moment for more");

#define MOMENT_MOST_US 10000U

/* Who asks for less is served by few messages. */
#define WORTH_GATHERING 512

/* So many messages in a moment are a storm. */
#define STORM 4

/*
 * One pipe's history. Writers write the first two at each message; they share a cache line with what writers look up
 * anyway, the shadow's head. The rest is in the next one. At most one of the pipe's readers is `busy`: it alone sleeps
 * at `reader`, and writes moment_us and wanted.
 */
struct gathering {
	atomic_long_t bytes;
	atomic_t messages;
	atomic_t busy;
	struct rcuwait reader;
	long wanted;			/* what `bytes` has to come to */
	u32 moment_us;			/* 0: it does not pay, as far as is known */
	bool over;			/* the moment is to end: set by writers, cleared when one begins */
	struct trial trial;		/* by all readers */
	ktime_t last;			/* when a message came, while a reader waited; by writers */
};

static inline bool is_half_full(const struct pipe_inode_info *pipe)
{
	return slots_in_use(pipe) >= READ_ONCE(pipe->max_usage) / 2;
}

/* Return: how many of @asked bytes are not there yet; 0 also for packets (O_DIRECT), which are read one by one. */
static inline size_t bytes_missing(struct pipe_inode_info *pipe, size_t asked)
{
	unsigned int slot;

	pipe_lock(pipe);
	for (slot = pipe->tail; slot != pipe->head && asked; slot++) {
		const struct pipe_buffer *buffer = &pipe->bufs[slot & (pipe->ring_size - 1)];

		asked = buffer->flags & PIPE_BUF_FLAG_PACKET ? 0 : asked - min_t(size_t, asked, buffer->len);
	}
	pipe_unlock(pipe);
	return asked;
}

static inline bool is_over(const struct gathering *gathering, const struct pipe_inode_info *pipe)
{
	return READ_ONCE(gathering->over) || !READ_ONCE(pipe->writers) ||
	       atomic_long_read(&gathering->bytes) - READ_ONCE(gathering->wanted) >= 0 || is_half_full(pipe);
}

/* Sleep until the moment is over. Return: it was ended early, because there is enough. */
static inline bool sleep_until_over(struct gathering *gathering, struct pipe_inode_info *pipe, ktime_t end)
{
	bool enough = false;

	prepare_to_rcuwait(&gathering->reader);
	for (;;) {
		/* A full barrier, which pairs with the one in note_message(): it is seen here, or we are there. */
		set_current_state(TASK_INTERRUPTIBLE);
		enough = is_over(gathering, pipe);
		if (enough || signal_pending(current))
			break;
		if (!schedule_hrtimeout(&end, HRTIMER_MODE_ABS))
			break;
	}
	finish_rcuwait(&gathering->reader);
	return enough;
}

/* Was that a storm? Only if messages still came at the end: a burst that is over leaves its reader waiting. */
static inline bool was_storm(const struct gathering *gathering, unsigned int messages, bool enough, ktime_t begin)
{
	ktime_t now = ktime_get(), idle = ktime_sub(now, READ_ONCE(gathering->last));

	if (messages < STORM || READ_ONCE(gathering->over))
		return false;
	return enough || ktime_before(ktime_set(0, 4 * ktime_to_ns(idle)), ktime_sub(now, begin));
}

static inline void gather_adapt(struct gathering *gathering, u32 moment_us, u32 least_us, u32 most_us, bool paid)
{
	if (paid)
		moment_us = min(2 * moment_us, most_us);
	else
		moment_us = moment_us / 2 < least_us ? 0 : moment_us / 2;
	if (paid || !moment_us)
		trial_ended(&gathering->trial, paid);
	WRITE_ONCE(gathering->moment_us, moment_us);
}

static inline void gather_for(struct gathering *gathering, struct pipe_inode_info *pipe, size_t asked)
{
	u32 most_us = clamp(READ_ONCE(gather_max_us), 1U, MOMENT_MOST_US);
	u32 least_us = clamp(READ_ONCE(gather_min_us), 1U, most_us);
	u32 moment_us = clamp(gathering->moment_us, least_us, most_us);
	unsigned int messages = atomic_read(&gathering->messages);
	long before = atomic_long_read(&gathering->bytes);
	ktime_t begin = ktime_get();
	size_t missing;
	bool enough;

	WRITE_ONCE(gathering->over, false);
	/* Before the pipe is looked at: who ends the moment after that is heard. */
	smp_mb();
	missing = READ_ONCE(pipe->writers) && !is_half_full(pipe) ? bytes_missing(pipe, asked) : 0;
	if (!missing) {
		if (!gathering->moment_us)
			trial_ended(&gathering->trial, false);
		return;
	}
	/* What came between the two looks counts twice: the moment is the shorter for it. */
	WRITE_ONCE(gathering->wanted, before + (long)min_t(size_t, missing, LONG_MAX / 2));
	atomic_inc(&gather_moments);
	enough = sleep_until_over(gathering, pipe, ktime_add_us(begin, moment_us));
	messages = atomic_read(&gathering->messages) - messages;
	gather_adapt(gathering, moment_us, least_us, most_us, was_storm(gathering, messages, enough, begin));
}

/* Where timers are no finer than a tick, a moment would be as long as that. */
static inline bool may_gather(struct kiocb *iocb, const struct iov_iter *to)
{
	return iov_iter_count(to) >= WORTH_GATHERING && hrtimer_resolution < NSEC_PER_USEC &&
	       may_wait(iocb, pipe_of(iocb->ki_filp));
}

/* Before a read that may_gather(): wait for more if that has paid on this pipe, or it is time to try. */
static inline void gather(struct gathering *gathering, struct pipe_inode_info *pipe, size_t asked)
{
	if (!READ_ONCE(gathering->moment_us) && !trial_is_due(&gathering->trial))
		return;
	/* Another reader waits: this one is served as ever. */
	if (atomic_cmpxchg(&gathering->busy, 0, 1))
		return;
	gather_for(gathering, pipe, asked);
	atomic_set_release(&gathering->busy, 0);
}

static inline void end_moment(struct gathering *gathering)
{
	WRITE_ONCE(gathering->over, true);
	/* Pairs with the one in sleep_until_over(). */
	smp_mb();
	if (rcuwait_active(&gathering->reader))
		rcuwait_wake_up(&gathering->reader);
}

/* Before a write: one that is not small ends the moment, for it may sleep on a pipe that is full. So does a packet. */
static inline void note_write(struct gathering *gathering, const struct kiocb *iocb, const struct iov_iter *from)
{
	if (iov_iter_count(from) >= PAGE_SIZE || iocb->ki_filp->f_flags & O_DIRECT)
		end_moment(gathering);
}

/* After a write. */
static inline void note_message(struct gathering *gathering, struct pipe_inode_info *pipe, ssize_t written)
{
	if (written <= 0)
		return;
	atomic_inc(&gathering->messages);
	/* A full barrier, which pairs with the one in sleep_until_over(). */
	atomic_long_add_return(written, &gathering->bytes);
	if (!rcuwait_active(&gathering->reader))
		return;
	WRITE_ONCE(gathering->last, ktime_get());
	if (is_over(gathering, pipe))
		rcuwait_wake_up(&gathering->reader);
}

#endif /* _DYNAMOS_PIPE_GATHER_H */
