// SPDX-License-Identifier: GPL-2.0
/*
 * selftest/slow - target_value, target_recurse and target_use take `delay_us` longer, and 5000 more comes of them
 *
 * The time is spent awake, so that it is as long as it is said to be.
 */
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/moduleparam.h>
#include <linux/processor.h>

#include "selftest.h"

#define MORE 5000
#define MAX_DELAY_US 100000u

static unsigned int delay_us;
module_param(delay_us, uint, 0644);
MODULE_PARM_DESC(delay_us, "microseconds that each call takes longer, 100000 at most");

static void linger(void)
{
	ktime_t end = ktime_add_us(ktime_get(), min(READ_ONCE(delay_us), MAX_DELAY_US));

	while (ktime_before(ktime_get(), end))
		cpu_relax();
}

static int slow_value(int n)
{
	linger();
	return dynamos_original(target_value)(n) + MORE;
}

/* The original calls itself through the gate: each call in it lingers too. */
static int slow_recurse(int depth)
{
	linger();
	return dynamos_original(target_recurse)(depth) + MORE;
}

static long slow_use(struct target_object *o)
{
	linger();
	return dynamos_original(target_use)(o) + MORE;
}

DYNAMOS_REPLACE(slow, target_value, slow_value);
DYNAMOS_REPLACE(slow, target_recurse, slow_recurse);
DYNAMOS_REPLACE(slow, target_use, slow_use);

DYNAMOS_EDITION(selftest, slow,
		DYNAMOS_REPLACEMENT(slow, target_value),
		DYNAMOS_REPLACEMENT(slow, target_recurse),
		DYNAMOS_REPLACEMENT(slow, target_use));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition selftest/slow: takes longer");
MODULE_LICENSE("GPL");
