// SPDX-License-Identifier: GPL-2.0
/*
 * shadow.c - extra state of objects, for editions
 *
 * The kernel's shadow variables, made for livepatches, under a number that is the edition's own: its address.
 */
#include <linux/livepatch.h>

#include "core.h"

static unsigned long shadow_id(const struct dynamos_edition *def)
{
	return (unsigned long)def;
}

void *dynamos_shadow_attach(struct dynamos_edition *def, void *object, size_t size, gfp_t gfp)
{
	/* From now on each death of an object is looked at for it. */
	if (!READ_ONCE(def->has_shadows))
		WRITE_ONCE(def->has_shadows, true);
	return failable(klp_shadow_get_or_alloc(object, shadow_id(def), size, gfp, NULL, NULL), NULL);
}
EXPORT_SYMBOL_GPL(dynamos_shadow_attach);

void *dynamos_shadow_get(struct dynamos_edition *def, void *object)
{
	return klp_shadow_get(object, shadow_id(def));
}
EXPORT_SYMBOL_GPL(dynamos_shadow_get);

/**
 * shadows_forget_object() - an object is about to die, and nobody else uses it any more
 * @subsystem: of the call
 * @object: the object
 *
 * Context: that of the call which ends it. The editions are those of the table of that call's subsystem, which cannot
 * go meanwhile: RCU, and their modules' exits wait for it.
 */
void shadows_forget_object(struct subsystem *subsystem, void *object)
{
	struct edition *edition;

	rcu_read_lock();
	list_for_each_entry_rcu(edition, &subsystem->editions, list)
		if (READ_ONCE(edition->def->has_shadows))
			klp_shadow_free(object, shadow_id(edition->def), NULL);
	rcu_read_unlock();
}

/* Nobody is in the edition any more. */
void shadows_forget_edition(struct dynamos_edition *def)
{
	if (def->has_shadows)
		klp_shadow_free_all(shadow_id(def), NULL);
	def->has_shadows = false;
}
