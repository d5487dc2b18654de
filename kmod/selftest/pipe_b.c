// SPDX-License-Identifier: GPL-2.0
/* pipe/b - the kernel's own code, and a count of each function's calls in read-only parameters */
#include <linux/atomic.h>
#include <linux/moduleparam.h>

#include "../editions/pipe/pipe.h"

#define COUNTER(name)					\
	static atomic_t name;				\
	module_param_named(name, name.counter, int, 0444)

COUNTER(reads);
COUNTER(writes);
COUNTER(births);
COUNTER(deaths);

static ssize_t b_read(struct kiocb *iocb, struct iov_iter *to)
{
	atomic_inc(&reads);
	return dynamos_original(pipe_read)(iocb, to);
}

static ssize_t b_write(struct kiocb *iocb, struct iov_iter *from)
{
	atomic_inc(&writes);
	return dynamos_original(pipe_write)(iocb, from);
}

static struct pipe_inode_info *b_alloc(void)
{
	atomic_inc(&births);
	return dynamos_original(alloc_pipe_info)();
}

static void b_free(struct pipe_inode_info *pipe)
{
	atomic_inc(&deaths);
	dynamos_original(free_pipe_info)(pipe);
}

DYNAMOS_REPLACE(b, pipe_read, b_read);
DYNAMOS_REPLACE(b, pipe_write, b_write);
DYNAMOS_REPLACE(b, alloc_pipe_info, b_alloc);
DYNAMOS_REPLACE(b, free_pipe_info, b_free);

DYNAMOS_EDITION(pipe, b,
		DYNAMOS_REPLACEMENT(b, pipe_read),
		DYNAMOS_REPLACEMENT(b, pipe_write),
		DYNAMOS_REPLACEMENT(b, alloc_pipe_info),
		DYNAMOS_REPLACEMENT(b, free_pipe_info));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition pipe/b: the kernel's own code, counted");
MODULE_LICENSE("GPL");
