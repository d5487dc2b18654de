// SPDX-License-Identifier: GPL-2.0
/* The subsystem `placement`: its one gate and its original. What it is for is in placement.h. */
#include "placement.h"

DYNAMOS_FUNCTION(placement, select_task_rq_fair);

DYNAMOS_SUBSYSTEM(placement, &dynamos_function_select_task_rq_fair);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos subsystem: on which CPU a task goes on that has been woken");
MODULE_LICENSE("GPL");
