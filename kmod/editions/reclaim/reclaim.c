// SPDX-License-Identifier: GPL-2.0
/* The subsystem `reclaim`: its one gate and its original. What it is for is in reclaim.h. */
#include "reclaim.h"

DYNAMOS_FUNCTION(reclaim, folio_referenced);

DYNAMOS_SUBSYSTEM(reclaim, &dynamos_function_folio_referenced);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos subsystem: which pages go when memory is short");
MODULE_LICENSE("GPL");
