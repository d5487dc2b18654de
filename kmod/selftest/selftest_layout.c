// SPDX-License-Identifier: GPL-2.0
/*
 * selftest/layout - stores the objects' values in another way
 *
 * Who uses an object gets the same values as from the original, and each says so (`wrong`) when it is handed an object
 * in the layout of the other. Further, it counts each object's uses in a shadow.
 *
 * Parameters, besides those of callbacks.h:
 *
 *	transfers_into transfers_out_of		(read-only) calls of transfer(), those that refused too
 *	converted				(read-only) objects that transfer() converted, there and back
 *	wrong					(read-only) objects found in the layout that they ought not to have
 *	shadow_uses				(read-only) count in the shadow of the object that was used last
 *	shadow_failures				(read-only) shadows that were not to be had
 *	refuse_transfer refuse_transfer_out	errnos for the two directions, positive; 0: agree
 *	fault_transfer				0: transfer() works; 1, 2: it faults on the way in, out
 */
#include <linux/compiler.h>
#include <linux/err.h>

#include "callbacks.h"
#include "selftest.h"

COUNTER(transfers_into);
COUNTER(transfers_out_of);
COUNTER(converted);
COUNTER(wrong);
COUNTER(shadow_uses);
COUNTER(shadow_failures);

static int refuse_transfer;
module_param(refuse_transfer, int, 0644);
MODULE_PARM_DESC(refuse_transfer, "the errno that transfer() into this layout fails with, positive; 0: it does not");

static int refuse_transfer_out;
module_param(refuse_transfer_out, int, 0644);
MODULE_PARM_DESC(refuse_transfer_out, "the errno that transfer() out of this layout fails with, positive; 0: it does not");

enum { FAULT_NONE, FAULT_INTO, FAULT_OUT_OF };

static int fault_transfer;
module_param(fault_transfer, int, 0644);
MODULE_PARM_DESC(fault_transfer, "1: transfer() into this layout reads at NULL; 2: the one out of it; 0: neither");

/* Needed by the bodies, before any of the macros that make it. */
DYNAMOS_DECLARE_EDITION(layout);

static void convert(struct target_object *o, int from, int to)
{
	spin_lock(&o->lock);
	if (o->layout == from) {
		o->layout = to;
		o->value = -o->value;
	} else {
		atomic_inc(&wrong);
	}
	spin_unlock(&o->lock);
}

static void to_negated(struct target_object *o)
{
	convert(o, TARGET_PLAIN, TARGET_NEGATED);
	atomic_inc(&converted);
}

static void to_plain(struct target_object *o)
{
	convert(o, TARGET_NEGATED, TARGET_PLAIN);
	atomic_inc(&converted);
}

/* Some may have been moved already, one by one: a per-object switch was under way. */
static void rest_to_negated(struct target_object *o)
{
	if (o->layout == TARGET_PLAIN)
		to_negated(o);
}

static void rest_to_plain(struct target_object *o)
{
	if (o->layout == TARGET_NEGATED)
		to_plain(o);
}

/* No object exists while there is no target. By symbol_get(), to leave the target free to go when this is done. */
static void convert_all(void (*how)(struct target_object *o))
{
	void (*for_each)(void (*visit)(struct target_object *o)) = symbol_get(target_for_each);

	if (!for_each)
		return;
	for_each(how);
	symbol_put(target_for_each);
}

static int refusal(enum dynamos_transfer direction)
{
	if (direction == DYNAMOS_INTO) {
		atomic_inc(&transfers_into);
		return -READ_ONCE(refuse_transfer);
	}
	atomic_inc(&transfers_out_of);
	return -READ_ONCE(refuse_transfer_out);
}

static noinline void fault_if_told(bool into)
{
	int *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	if (READ_ONCE(fault_transfer) == (into ? FAULT_INTO : FAULT_OUT_OF))
		READ_ONCE(*nowhere);
}

static int transfer(void *object, enum dynamos_transfer direction)
{
	bool into = direction == DYNAMOS_INTO;
	int ret = refusal(direction);

	fault_if_told(into);
	if (ret)
		return ret;
	if (!object)
		convert_all(into ? rest_to_negated : rest_to_plain);
	else if (into)
		to_negated(object);
	else
		to_plain(object);
	return 0;
}

static void count_in_shadow(struct target_object *o)
{
	atomic_t *uses = dynamos_shadow_attach(DYNAMOS_THIS_EDITION(layout), o, sizeof(*uses), GFP_KERNEL);

	if (uses)
		atomic_set(&shadow_uses, atomic_inc_return(uses));
	else
		atomic_inc(&shadow_failures);
}

static long layout_use(struct target_object *o)
{
	long value;

	count_in_shadow(o);
	spin_lock(&o->lock);
	if (o->layout != TARGET_NEGATED)
		atomic_inc(&wrong);
	value = -o->value;
	o->value -= 1;
	spin_unlock(&o->lock);
	return value;
}

/* Nobody else knows the object yet. */
static struct target_object *layout_new(long key)
{
	struct target_object *o = dynamos_original(target_new)(key);

	if (!IS_ERR(o))
		convert(o, TARGET_PLAIN, TARGET_NEGATED);
	return o;
}

static void layout_free(struct target_object *o)
{
	convert(o, TARGET_NEGATED, TARGET_PLAIN);
	dynamos_original(target_free)(o);
}

DYNAMOS_REPLACE(layout, target_use, layout_use);
DYNAMOS_REPLACE(layout, target_new, layout_new);
DYNAMOS_REPLACE(layout, target_free, layout_free);

DYNAMOS_EDITION_TRAITS(layout, COUNTING_CALLBACKS, .transfer = transfer);

DYNAMOS_EDITION(selftest, layout,
		DYNAMOS_REPLACEMENT(layout, target_use),
		DYNAMOS_REPLACEMENT(layout, target_new),
		DYNAMOS_REPLACEMENT(layout, target_free));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition selftest/layout: another layout of the objects");
MODULE_LICENSE("GPL");
