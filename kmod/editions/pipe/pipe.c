// SPDX-License-Identifier: GPL-2.0
/* The subsystem `pipe`: its gates and their originals. What they are for is in pipe.h. */
#include "pipe.h"

DYNAMOS_FUNCTION_TRAITS(alloc_pipe_info, .role = DYNAMOS_BIRTH);
DYNAMOS_FUNCTION_TRAITS(free_pipe_info, .role = DYNAMOS_DEATH);

/* pipe_release() is about none, as the last one has free_pipe_info() called: that must be alone with its pipe. */
DYNAMOS_OBJECT(pipe_read, pipe_of(iocb->ki_filp));
DYNAMOS_OBJECT(pipe_write, pipe_of(iocb->ki_filp));
DYNAMOS_OBJECT(free_pipe_info, pipe);

DYNAMOS_FUNCTION(pipe, pipe_read);
DYNAMOS_FUNCTION(pipe, pipe_write);
DYNAMOS_FUNCTION(pipe, pipe_release);
DYNAMOS_FUNCTION(pipe, alloc_pipe_info);
DYNAMOS_FUNCTION(pipe, free_pipe_info);

DYNAMOS_SUBSYSTEM_TRAITS(pipe, .may_sleep = true);

DYNAMOS_SUBSYSTEM(pipe,
		  &dynamos_function_pipe_read,
		  &dynamos_function_pipe_write,
		  &dynamos_function_pipe_release,
		  &dynamos_function_alloc_pipe_info,
		  &dynamos_function_free_pipe_info);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos subsystem: pipes");
MODULE_LICENSE("GPL");
