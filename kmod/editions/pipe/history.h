/* SPDX-License-Identifier: GPL-2.0 */
/*
 * history.h - what the editions of `pipe` have in common: whose read may be changed, and when a pipe is tried again
 *
 * Every pipe has a history of its own, in a shadow: all zeroes at first, freed with the pipe. It is written by readers
 * and writers without a common lock; what that can lose is said at each field. No data depends on it.
 */
#ifndef _DYNAMOS_PIPE_HISTORY_H
#define _DYNAMOS_PIPE_HISTORY_H

#include <linux/minmax.h>
#include <linux/sched/prio.h>
#include <linux/sched/signal.h>

#include "pipe.h"

#define TRIAL_FIRST 32
#define TRIAL_MOST_DOUBLINGS 7

/*
 * Whether what an edition does would pay on a pipe is found out by doing it now and then: after 32 reads, and after
 * each time that it did not pay twice as many reads later, up to 4096. By the pipe's readers; two of them may count two
 * reads as one, or make two trials.
 */
struct trial {
	u32 reads;
	u32 doublings;
};

/* Count a read. Return: it is time; also for those that come next, until trial_ended(). */
static inline bool trial_is_due(struct trial *trial)
{
	u32 reads = READ_ONCE(trial->reads);

	if (reads >= TRIAL_FIRST << READ_ONCE(trial->doublings))
		return true;
	WRITE_ONCE(trial->reads, reads + 1);
	return false;
}

static inline void trial_ended(struct trial *trial, bool paid)
{
	u32 doublings = READ_ONCE(trial->doublings);

	WRITE_ONCE(trial->doublings, paid ? 0 : min_t(u32, doublings + 1, TRIAL_MOST_DOUBLINGS));
	WRITE_ONCE(trial->reads, 0);
}

/*
 * May this read be kept waiting? One that would not sleep by itself may not: it was opened so, asked so, or belongs to
 * io_uring or to a set of asynchronous ones. Nor one of a task with real-time priority. A pipe of notifications is none
 * of data.
 */
static inline bool may_wait(struct kiocb *iocb, const struct pipe_inode_info *pipe)
{
	return is_sync_kiocb(iocb) && !(iocb->ki_flags & IOCB_NOWAIT) && !(iocb->ki_filp->f_flags & O_NONBLOCK) &&
	       !pipe_has_watch_queue(pipe) && READ_ONCE(pipe->writers) && current->prio >= MAX_RT_PRIO &&
	       !signal_pending(current);
}

/* Without the pipe's lock, from two looks: nearly so a moment ago. For what may be wrong now and then. */
static inline unsigned int slots_in_use(const struct pipe_inode_info *pipe)
{
	return pipe_occupancy(READ_ONCE(pipe->head), READ_ONCE(pipe->tail));
}

#endif /* _DYNAMOS_PIPE_HISTORY_H */
