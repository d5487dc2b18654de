/* SPDX-License-Identifier: GPL-2.0 */
/*
 * target.h - the functions that the self-test's subsystems gate, and the objects some of them are about
 *
 * They are in dynamos_target.ko, which knows nothing of dynamos. The subsystems and editions take the types from here
 * and none of the symbols: a subsystem has to bear that its functions' module is not there.
 */
#ifndef _DYNAMOS_TARGET_H
#define _DYNAMOS_TARGET_H

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>

/* Comes back through memory: the caller passes a hidden pointer before the first argument. */
struct target_quad {
	long sum, difference, a, b;
};

/* Comes back in two registers. */
struct target_pair {
	long a, b;
};

/* How an object's value is stored. The functions here know only the first one; an edition may bring the other. */
#define TARGET_PLAIN 0
#define TARGET_NEGATED 1

/* What each object's value is at first; target_use() adds one. Not 0, which is its own negation. */
#define TARGET_FIRST_VALUE 100

struct target_object {
	struct list_head link;		/* this and the next three: of target_objects.c, under its mutex */
	long key;
	unsigned int users;		/* commands that use it now */
	bool known;			/* commands may find it: target_new() has returned, target_free() not begun */
	wait_queue_head_t wait;
	unsigned int releases;		/* how often those who wait were let go */
	spinlock_t lock;		/* for what follows */
	int layout;
	long value;
};

int target_value(int n);
long target_many(long a, long b, long c, long d, long e, long f, long g, long h, long i);
struct target_quad target_struct(long a, long b);
struct target_pair target_pair(long a, long b);
void target_void(long *counter);
int target_recurse(int depth);
int target_outer(int n);
int target_inner(int n);
int target_tail(int n);
int target_tail_end(int n);
int target_atomic(int n);

/* @seen is o->releases from before the call, so that a release between then and the waiting is not lost. */
int target_block(struct target_object *o, unsigned int seen);
struct target_object *target_new(long key);
void target_free(struct target_object *o);
long target_use(struct target_object *o);

/*
 * Calls @visit for every object. For a module that converts them all at a time when none of the functions above runs;
 * to be had by symbol_get(), which leaves it without a lasting dependency on this module.
 */
void target_for_each(void (*visit)(struct target_object *o));

/*
 * Twenty functions alike, which return the number of the edition, 0 for the original. This makes one thing of each of
 * their numbers; what comes between two of them is a semicolon, or TARGET_COMMA.
 */
#define TARGET_FLIPS(macro, between)						\
	macro(00) between macro(01) between macro(02) between macro(03) between	\
	macro(04) between macro(05) between macro(06) between macro(07) between	\
	macro(08) between macro(09) between macro(10) between macro(11) between	\
	macro(12) between macro(13) between macro(14) between macro(15) between	\
	macro(16) between macro(17) between macro(18) between macro(19)
#define TARGET_COMMA /* an argument cannot be a bare one */,

#define TARGET_FLIP_DECLARE(number) int target_flip_##number(void)
TARGET_FLIPS(TARGET_FLIP_DECLARE, ;);
#undef TARGET_FLIP_DECLARE

#endif /* _DYNAMOS_TARGET_H */
