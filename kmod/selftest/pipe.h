/* SPDX-License-Identifier: GPL-2.0 */
/*
 * pipe.h - the subsystem `pipe`: the kernel's own pipes, which are never idle and whose readers may block for ever
 *
 * The object of a read or a write is the pipe; alloc_pipe_info() makes one and free_pipe_info() ends it. All four are
 * called by tasks that may sleep. The first two are static in fs/pipe.c, and whole: their addresses are in a table.
 */
#ifndef _DYNAMOS_SELFTEST_PIPE_H
#define _DYNAMOS_SELFTEST_PIPE_H

#include <linux/fs.h>
#include <linux/pipe_fs_i.h>
#include <linux/uio.h>

#include <dynamos/edition.h>

#define DYNAMOS_PROTOTYPE_pipe_read \
	DYNAMOS_RETURNS(ssize_t, (struct kiocb *iocb, struct iov_iter *to), (iocb, to))
#define DYNAMOS_PROTOTYPE_pipe_write \
	DYNAMOS_RETURNS(ssize_t, (struct kiocb *iocb, struct iov_iter *from), (iocb, from))
#define DYNAMOS_PROTOTYPE_alloc_pipe_info DYNAMOS_RETURNS(struct pipe_inode_info *, (void), ())
#define DYNAMOS_PROTOTYPE_free_pipe_info DYNAMOS_RETURNS_VOID((struct pipe_inode_info *pipe), (pipe))

DYNAMOS_DECLARE_SUBSYSTEM(pipe);
DYNAMOS_DECLARE_FUNCTION(pipe_read);
DYNAMOS_DECLARE_FUNCTION(pipe_write);
DYNAMOS_DECLARE_FUNCTION(alloc_pipe_info);
DYNAMOS_DECLARE_FUNCTION(free_pipe_info);

#endif /* _DYNAMOS_SELFTEST_PIPE_H */
