// SPDX-License-Identifier: GPL-2.0
/*
 * selftest/b - replaces every function: the original's result and 1000 more
 *
 * What waits, and what ends an object's life, has no result to tell it by. An object made here begins with 1000 more.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/moduleparam.h>

#include "callbacks.h"
#include "selftest.h"

#define MORE 1000

static int b_value(int n)
{
	return dynamos_original(target_value)(n) + MORE;
}

static long b_many(long a, long b, long c, long d, long e, long f, long g, long h, long i)
{
	return dynamos_original(target_many)(a, b, c, d, e, f, g, h, i) + MORE;
}

static struct target_quad b_struct(long a, long b)
{
	struct target_quad quad = dynamos_original(target_struct)(a, b);

	quad.sum += MORE;
	quad.difference += MORE;
	quad.a += MORE;
	quad.b += MORE;
	return quad;
}

static struct target_pair b_pair(long a, long b)
{
	struct target_pair pair = dynamos_original(target_pair)(a, b);

	pair.a += MORE;
	pair.b += MORE;
	return pair;
}

static void b_void(long *counter)
{
	dynamos_original(target_void)(counter);
	*counter += MORE;
}

static int b_recurse(int depth)
{
	return dynamos_original(target_recurse)(depth) + MORE;
}

static int b_outer(int n)
{
	return dynamos_original(target_outer)(n) + MORE;
}

static int b_inner(int n)
{
	return dynamos_original(target_inner)(n) + MORE;
}

static int b_tail(int n)
{
	return dynamos_original(target_tail)(n) + MORE;
}

static int b_block(struct target_object *o, unsigned int seen)
{
	return dynamos_original(target_block)(o, seen);
}

static struct target_object *b_new(long key)
{
	struct target_object *o = dynamos_original(target_new)(key);

	if (!IS_ERR(o))
		o->value += MORE;
	return o;
}

static void b_free(struct target_object *o)
{
	dynamos_original(target_free)(o);
}

static long b_use(struct target_object *o)
{
	return dynamos_original(target_use)(o) + MORE;
}

/* To be read at any time: what the original of a function gives that may not be there. */
static int value_of_original(char *buffer, const struct kernel_param *param)
{
	return sprintf(buffer, "%d\n", dynamos_original(target_value)(5));
}

static const struct kernel_param_ops original_ops = {
	.get = value_of_original,
};
module_param_cb(original, &original_ops, NULL, 0444);
MODULE_PARM_DESC(original, "what the original target_value(5) gives: 6, or 0 while it is not there");

/* Keeps whoever sets it, and the locks that setting an edition's parameter takes. */
static int stall(const char *value, const struct kernel_param *param)
{
	unsigned int ms;
	int err;

	err = kstrtouint(value, 10, &ms);
	if (!err && msleep_interruptible(ms))
		err = -EINTR;
	return err;
}

static const struct kernel_param_ops stall_ops = {
	.set = stall,
};
module_param_cb(stall, &stall_ops, NULL, 0200);
MODULE_PARM_DESC(stall, "write a number of milliseconds: that is how long the write takes");

DYNAMOS_REPLACE(b, target_value, b_value);
DYNAMOS_REPLACE(b, target_many, b_many);
DYNAMOS_REPLACE(b, target_struct, b_struct);
DYNAMOS_REPLACE(b, target_pair, b_pair);
DYNAMOS_REPLACE(b, target_void, b_void);
DYNAMOS_REPLACE(b, target_recurse, b_recurse);
DYNAMOS_REPLACE(b, target_outer, b_outer);
DYNAMOS_REPLACE(b, target_inner, b_inner);
DYNAMOS_REPLACE(b, target_tail, b_tail);
DYNAMOS_REPLACE(b, target_block, b_block);
DYNAMOS_REPLACE(b, target_new, b_new);
DYNAMOS_REPLACE(b, target_free, b_free);
DYNAMOS_REPLACE(b, target_use, b_use);

DYNAMOS_EDITION_TRAITS(b, COUNTING_CALLBACKS);

DYNAMOS_EDITION(selftest, b,
		DYNAMOS_REPLACEMENT(b, target_value),
		DYNAMOS_REPLACEMENT(b, target_many),
		DYNAMOS_REPLACEMENT(b, target_struct),
		DYNAMOS_REPLACEMENT(b, target_pair),
		DYNAMOS_REPLACEMENT(b, target_void),
		DYNAMOS_REPLACEMENT(b, target_recurse),
		DYNAMOS_REPLACEMENT(b, target_outer),
		DYNAMOS_REPLACEMENT(b, target_inner),
		DYNAMOS_REPLACEMENT(b, target_tail),
		DYNAMOS_REPLACEMENT(b, target_block),
		DYNAMOS_REPLACEMENT(b, target_new),
		DYNAMOS_REPLACEMENT(b, target_free),
		DYNAMOS_REPLACEMENT(b, target_use));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition selftest/b: every function, recognisable results");
MODULE_LICENSE("GPL");
