// SPDX-License-Identifier: GPL-2.0
/*
 * pipe/spin - a reader looks for a few microseconds before it sleeps
 *
 * For programs that talk through pipes by turns and have CPUs to spare. Where all CPUs are wanted it does nothing: it
 * stops as soon as somebody else is to run on this one.
 */
#include "poll.h"

DYNAMOS_DECLARE_EDITION(spin);

static ssize_t polling_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct pipe_inode_info *pipe = pipe_of(iocb->ki_filp);
	struct polling *polling;

	if (may_poll(iocb, to)) {
		polling = dynamos_shadow_attach(DYNAMOS_THIS_EDITION(spin), pipe, sizeof(*polling),
						GFP_KERNEL_ACCOUNT);
		if (polling)
			poll_pipe(polling, pipe);
	}
	return dynamos_original(pipe_read)(iocb, to);
}

DYNAMOS_REPLACE(spin, pipe_read, polling_read);

DYNAMOS_EDITION(pipe, spin,
		DYNAMOS_REPLACEMENT(spin, pipe_read));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition pipe/spin: readers look for a few microseconds before they sleep");
MODULE_LICENSE("GPL");
