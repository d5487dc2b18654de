// SPDX-License-Identifier: GPL-2.0
/*
 * pipe/coalesce - under a storm of small messages a reader waits a moment for more
 *
 * For loggers, collectors and shell pipelines whose writers write a line at a time: far fewer context switches. A
 * reader who answers each burst of messages before the next comes loses up to a moment by it.
 */
#include "gather.h"

DYNAMOS_DECLARE_EDITION(coalesce);

static ssize_t coalescing_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct pipe_inode_info *pipe = pipe_of(iocb->ki_filp);
	struct gathering *gathering;

	if (may_gather(iocb, to)) {
		gathering = dynamos_shadow_attach(DYNAMOS_THIS_EDITION(coalesce), pipe, sizeof(*gathering),
						  GFP_KERNEL_ACCOUNT);
		if (gathering)
			gather(gathering, pipe, iov_iter_count(to));
	}
	return dynamos_original(pipe_read)(iocb, to);
}

static ssize_t telling_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct pipe_inode_info *pipe = pipe_of(iocb->ki_filp);
	struct gathering *gathering = dynamos_shadow_get(DYNAMOS_THIS_EDITION(coalesce), pipe);
	ssize_t written;

	if (!gathering)
		return dynamos_original(pipe_write)(iocb, from);
	note_write(gathering, iocb, from);
	written = dynamos_original(pipe_write)(iocb, from);
	note_message(gathering, pipe, written);
	return written;
}

static int telling_release(struct inode *inode, struct file *file)
{
	struct gathering *gathering = dynamos_shadow_get(DYNAMOS_THIS_EDITION(coalesce), pipe_of(file));

	/* It looks again, and the original waits for what is left to come; the pipe may be gone after the call. */
	if (gathering && file->f_mode & FMODE_WRITE)
		end_moment(gathering);
	return dynamos_original(pipe_release)(inode, file);
}

DYNAMOS_REPLACE(coalesce, pipe_read, coalescing_read);
DYNAMOS_REPLACE(coalesce, pipe_write, telling_write);
DYNAMOS_REPLACE(coalesce, pipe_release, telling_release);

DYNAMOS_EDITION(pipe, coalesce,
		DYNAMOS_REPLACEMENT(coalesce, pipe_read),
		DYNAMOS_REPLACEMENT(coalesce, pipe_write),
		DYNAMOS_REPLACEMENT(coalesce, pipe_release));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition pipe/coalesce: readers wait a moment for more small messages");
MODULE_LICENSE("GPL");
