// SPDX-License-Identifier: GPL-2.0
/*
 * pipe/adaptive - each pipe gets what its own history says: gathering, looking before sleeping, or the original
 *
 * One machine has pipes of all kinds at once. Each one's readers try the other ways now and then, and go on with what
 * has paid. A pipe on which neither does is left alone: with scope=handler its calls go to the original, so that only
 * those get this edition which it is for.
 */
#include "gather.h"
#include "poll.h"

struct history {
	struct gathering gathering;
	struct polling polling;
};

DYNAMOS_DECLARE_EDITION(adaptive);

static bool is_gathering(const struct history *history)
{
	return READ_ONCE(history->gathering.moment_us);
}

static bool is_polling(const struct history *history)
{
	return READ_ONCE(history->polling.credit);
}

static ssize_t adaptive_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct pipe_inode_info *pipe = pipe_of(iocb->ki_filp);
	bool gathers = may_gather(iocb, to);
	struct history *history;

	if (!gathers && !may_poll(iocb, to))
		return dynamos_original(pipe_read)(iocb, to);
	history = dynamos_shadow_attach(DYNAMOS_THIS_EDITION(adaptive), pipe, sizeof(*history),
					GFP_KERNEL_ACCOUNT);
	if (!history)
		return dynamos_original(pipe_read)(iocb, to);
	if (gathers)
		gather(&history->gathering, pipe, iov_iter_count(to));
	if (!is_gathering(history) && may_poll(iocb, to))
		poll_pipe(&history->polling, pipe);
	return dynamos_original(pipe_read)(iocb, to);
}

static ssize_t adaptive_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct pipe_inode_info *pipe = pipe_of(iocb->ki_filp);
	struct history *history = dynamos_shadow_get(DYNAMOS_THIS_EDITION(adaptive), pipe);
	ssize_t written;

	if (!history)
		return dynamos_original(pipe_write)(iocb, from);
	note_write(&history->gathering, iocb, from);
	written = dynamos_original(pipe_write)(iocb, from);
	note_message(&history->gathering, pipe, written);
	return written;
}

static int adaptive_release(struct inode *inode, struct file *file)
{
	struct history *history = dynamos_shadow_get(DYNAMOS_THIS_EDITION(adaptive), pipe_of(file));

	/* As in coalesce. */
	if (history && file->f_mode & FMODE_WRITE)
		end_moment(&history->gathering);
	return dynamos_original(pipe_release)(inode, file);
}

/*
 * Is it this pipe's turn? A pipe that has no history yet begins one here; its reads are counted in both places, which
 * makes the trials a little more frequent.
 */
static bool wants_read(struct kiocb *iocb, const struct iov_iter *to)
{
	bool gathers = may_gather(iocb, to), polls = may_poll(iocb, to), wants;
	struct history *history;

	if (!gathers && !polls)
		return false;
	history = dynamos_shadow_attach(DYNAMOS_THIS_EDITION(adaptive), pipe_of(iocb->ki_filp), sizeof(*history),
					GFP_NOWAIT | __GFP_ACCOUNT | __GFP_NOWARN);
	if (!history)
		return false;
	/* Both are counted. */
	wants = gathers && (is_gathering(history) || trial_is_due(&history->gathering.trial));
	if (polls && (is_polling(history) || trial_is_due(&history->polling.trial)))
		wants = true;
	return wants;
}

/* Is somebody to be told of it? */
static bool wants_write(struct pipe_inode_info *pipe)
{
	struct history *history = dynamos_shadow_get(DYNAMOS_THIS_EDITION(adaptive), pipe);

	return history && (is_gathering(history) || rcuwait_active(&history->gathering.reader));
}

static bool adaptive_handler(const struct dynamos_choice *choice)
{
	struct kiocb *iocb = (void *)choice->arguments[0];

	if (choice->function == &dynamos_function_pipe_read)
		return wants_read(iocb, (void *)choice->arguments[1]);
	if (choice->function == &dynamos_function_pipe_write)
		return wants_write(pipe_of(iocb->ki_filp));
	/* A close is told in any case; the others are the original's. */
	return choice->function == &dynamos_function_pipe_release;
}

DYNAMOS_REPLACE(adaptive, pipe_read, adaptive_read);
DYNAMOS_REPLACE(adaptive, pipe_write, adaptive_write);
DYNAMOS_REPLACE(adaptive, pipe_release, adaptive_release);

DYNAMOS_EDITION_TRAITS(adaptive, .handler = adaptive_handler);

DYNAMOS_EDITION(pipe, adaptive,
		DYNAMOS_REPLACEMENT(adaptive, pipe_read),
		DYNAMOS_REPLACEMENT(adaptive, pipe_write),
		DYNAMOS_REPLACEMENT(adaptive, pipe_release));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition pipe/adaptive: each pipe's readers wait as its own history says");
MODULE_LICENSE("GPL");
