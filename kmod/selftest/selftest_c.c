// SPDX-License-Identifier: GPL-2.0
/* selftest/c - replaces some functions only, with 2000 more than the original's result, and says nothing of itself */
#include "selftest.h"

#define MORE 2000

static int c_value(int n)
{
	return dynamos_original(target_value)(n) + MORE;
}

static int c_inner(int n)
{
	return dynamos_original(target_inner)(n) + MORE;
}

static long c_use(struct target_object *o)
{
	return dynamos_original(target_use)(o) + MORE;
}

DYNAMOS_REPLACE(c, target_value, c_value);
DYNAMOS_REPLACE(c, target_inner, c_inner);
DYNAMOS_REPLACE(c, target_use, c_use);

DYNAMOS_EDITION(selftest, c,
		DYNAMOS_REPLACEMENT(c, target_value),
		DYNAMOS_REPLACEMENT(c, target_inner),
		DYNAMOS_REPLACEMENT(c, target_use));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition selftest/c: some functions only");
MODULE_LICENSE("GPL");
