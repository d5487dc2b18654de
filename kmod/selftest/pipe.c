// SPDX-License-Identifier: GPL-2.0
/* The subsystem `pipe`: gates and originals. What is in it is in pipe.h. */
#include "pipe.h"

DYNAMOS_FUNCTION_TRAITS(alloc_pipe_info, .role = DYNAMOS_BIRTH);
DYNAMOS_FUNCTION_TRAITS(free_pipe_info, .role = DYNAMOS_DEATH);

DYNAMOS_OBJECT(pipe_read, iocb->ki_filp->private_data);
DYNAMOS_OBJECT(pipe_write, iocb->ki_filp->private_data);
DYNAMOS_OBJECT(free_pipe_info, pipe);

DYNAMOS_FUNCTION(pipe, pipe_read);
DYNAMOS_FUNCTION(pipe, pipe_write);
DYNAMOS_FUNCTION(pipe, alloc_pipe_info);
DYNAMOS_FUNCTION(pipe, free_pipe_info);

DYNAMOS_SUBSYSTEM_TRAITS(pipe, .may_sleep = true);

DYNAMOS_SUBSYSTEM(pipe,
		  &dynamos_function_pipe_read,
		  &dynamos_function_pipe_write,
		  &dynamos_function_alloc_pipe_info,
		  &dynamos_function_free_pipe_info);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos subsystem of the self-test: the kernel's pipes");
MODULE_LICENSE("GPL");
