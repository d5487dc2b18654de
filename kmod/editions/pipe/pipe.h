/* SPDX-License-Identifier: GPL-2.0 */
/*
 * pipe.h - the subsystem `pipe`: when a reader sleeps, and when it is woken
 *
 *	pipe_read	gives what is there, at once; sleeps only while there is nothing
 *	pipe_write	wakes a reader that sleeps on an empty pipe
 *	pipe_release	an end is closed; its last close wakes whoever sleeps at the other
 *	alloc_pipe_info	makes a pipe
 *	free_pipe_info	ends it: nobody has it open any more
 *
 * Pipes are never idle: somewhere a reader sleeps in pipe_read(), for ever if it has to. What read() and write()
 * promise leaves open when a reader that sleeps gets to run, and how much has come by then; every edition here is about
 * that, and calls the original for all the rest. So all of them are correct, and may run beside each other on one pipe.
 *
 * All five are called by tasks that may sleep. The object of a call is the pipe. pipe_read(), pipe_write() and
 * pipe_release() are static in fs/pipe.c, and whole: their addresses are in a table.
 */
#ifndef _DYNAMOS_PIPE_H
#define _DYNAMOS_PIPE_H

#include <linux/fs.h>
#include <linux/pipe_fs_i.h>
#include <linux/uio.h>

#include <dynamos/edition.h>

#define DYNAMOS_PROTOTYPE_pipe_read \
	DYNAMOS_RETURNS(ssize_t, (struct kiocb *iocb, struct iov_iter *to), (iocb, to))
#define DYNAMOS_PROTOTYPE_pipe_write \
	DYNAMOS_RETURNS(ssize_t, (struct kiocb *iocb, struct iov_iter *from), (iocb, from))
#define DYNAMOS_PROTOTYPE_pipe_release \
	DYNAMOS_RETURNS(int, (struct inode *inode, struct file *file), (inode, file))
#define DYNAMOS_PROTOTYPE_alloc_pipe_info DYNAMOS_RETURNS(struct pipe_inode_info *, (void), ())
#define DYNAMOS_PROTOTYPE_free_pipe_info DYNAMOS_RETURNS_VOID((struct pipe_inode_info *pipe), (pipe))

DYNAMOS_DECLARE_SUBSYSTEM(pipe);
DYNAMOS_DECLARE_FUNCTION(pipe_read);
DYNAMOS_DECLARE_FUNCTION(pipe_write);
DYNAMOS_DECLARE_FUNCTION(pipe_release);
DYNAMOS_DECLARE_FUNCTION(alloc_pipe_info);
DYNAMOS_DECLARE_FUNCTION(free_pipe_info);

/* The pipe of an open end. */
static inline struct pipe_inode_info *pipe_of(const struct file *file)
{
	return file->private_data;
}

#endif /* _DYNAMOS_PIPE_H */
