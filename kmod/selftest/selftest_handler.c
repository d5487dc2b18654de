// SPDX-License-Identifier: GPL-2.0
/* selftest/handler - with scope=handler it gets the calls with an even number: 3000 more than the original's result */
#include "selftest.h"

#define MORE 3000

static int handler_value(int n)
{
	return dynamos_original(target_value)(n) + MORE;
}

/* An int has the lower half of a register, and the upper half is anything. */
static bool is_even(const struct dynamos_choice *choice)
{
	return choice->function == &dynamos_function_target_value && !((int)choice->arguments[0] & 1);
}

DYNAMOS_REPLACE(handler, target_value, handler_value);

DYNAMOS_EDITION_TRAITS(handler, .handler = is_even);

DYNAMOS_EDITION(selftest, handler,
		DYNAMOS_REPLACEMENT(handler, target_value));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition selftest/handler: for calls with an even number");
MODULE_LICENSE("GPL");
