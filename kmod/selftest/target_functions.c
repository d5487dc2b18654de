// SPDX-License-Identifier: GPL-2.0
/*
 * The functions that are gated, save for those about objects.
 *
 * Results are hidden from the compiler, which could otherwise learn from a body what its callers will get, and use
 * that in place of what they do get from an edition.
 */
#include <linux/bug.h>

#include "target_internal.h"

target_gated int target_value(int n)
{
	OPTIMIZER_HIDE_VAR(n);
	return n + 1;
}

/* Each argument has its own decimal place: three of them come on the stack. */
target_gated long target_many(long a, long b, long c, long d, long e, long f, long g, long h, long i)
{
	OPTIMIZER_HIDE_VAR(a);
	return a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f + 1000000 * g + 10000000 * h + 100000000 * i;
}

target_gated struct target_quad target_struct(long a, long b)
{
	OPTIMIZER_HIDE_VAR(a);
	return (struct target_quad){ .sum = a + b, .difference = a - b, .a = a, .b = b };
}

target_gated struct target_pair target_pair(long a, long b)
{
	OPTIMIZER_HIDE_VAR(a);
	return (struct target_pair){ .a = a, .b = b };
}

target_gated void target_void(long *counter)
{
	barrier();
	*counter += 1;
}

target_gated int target_recurse(int depth)
{
	int below;

	if (depth <= 0)
		return 0;
	below = target_recurse(depth - 1);
	/* Else this becomes a loop. */
	OPTIMIZER_HIDE_VAR(below);
	return depth + below;
}

target_gated int target_inner(int n)
{
	OPTIMIZER_HIDE_VAR(n);
	return n + 1;
}

target_gated int target_outer(int n)
{
	int inner = target_inner(n);

	OPTIMIZER_HIDE_VAR(inner);
	return inner + 10;
}

target_gated int target_tail_end(int n)
{
	OPTIMIZER_HIDE_VAR(n);
	return n + 5;
}

/* Leaves by a jump: who returns to the caller is target_tail_end(). */
target_gated int target_tail(int n)
{
	OPTIMIZER_HIDE_VAR(n);
	return target_tail_end(n + 20);
}

target_gated int target_atomic(int n)
{
	OPTIMIZER_HIDE_VAR(n);
	return n + 1;
}

#define TARGET_FLIP_DEFINE(number)			\
	target_gated int target_flip_##number(void)	\
	{						\
		int edition = 0;			\
							\
		OPTIMIZER_HIDE_VAR(edition);		\
		return edition;				\
	}
TARGET_FLIPS(TARGET_FLIP_DEFINE, ;);
