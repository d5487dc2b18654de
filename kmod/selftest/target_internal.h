/* SPDX-License-Identifier: GPL-2.0 */
/* target_internal.h - what the files of dynamos_target.ko have of one another */
#ifndef _DYNAMOS_TARGET_INTERNAL_H
#define _DYNAMOS_TARGET_INTERNAL_H

#include <linux/compiler.h>

#include "target.h"

/* The compiler must keep the function's name, its calling convention and each call of it. */
#define target_gated noinline __noclone

/* target_objects.c */
struct target_object *target_get(long key);
void target_put(struct target_object *o);
int target_create(long key);
int target_destroy(long key);
int target_release(long key);
void target_release_all(void);
int target_waiting(void);
int target_flipping(void);
int target_wrong(void);
void target_destroy_all(void);

/* target_runs.c */
enum target_direction {
	TARGET_UP,
	TARGET_DOWN,
	TARGET_BOTH,
};

struct target_flip_run {
	unsigned long calls;
	unsigned long changes;		/* calls that returned something else than the one before */
	unsigned long violations;	/* changes against the run's direction */
	int last;
};

struct target_atomic_run {
	unsigned long hard, soft;	/* calls made in hard and in soft interrupts */
	long sum;			/* of what they returned */
};

void target_run_flips(unsigned int ms, enum target_direction direction, struct target_flip_run *run);
void target_run_atomic(unsigned long calls, struct target_atomic_run *run);
void target_run_interrupted(unsigned long calls, struct target_atomic_run *run);
u64 target_run_spin(unsigned long calls);

#endif /* _DYNAMOS_TARGET_INTERNAL_H */
