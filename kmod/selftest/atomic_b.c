// SPDX-License-Identifier: GPL-2.0
/* selftest_atomic/b - 1000 more than the original's result */
#include "atomic.h"

static int b_atomic(int n)
{
	return dynamos_original(target_atomic)(n) + 1000;
}

DYNAMOS_REPLACE(b, target_atomic, b_atomic);

DYNAMOS_EDITION(selftest_atomic, b, DYNAMOS_REPLACEMENT(b, target_atomic));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition selftest_atomic/b: a recognisable result in interrupts");
MODULE_LICENSE("GPL");
