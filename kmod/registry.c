// SPDX-License-Identifier: GPL-2.0
/*
 * registry.c - which subsystems and editions there are; edition modules come and go here
 *
 * Registering never switches. A subsystem's gates are installed with its first edition besides the original and
 * taken out with the last, so that a kernel with nothing to switch runs its own untouched text.
 */
#include <linux/ctype.h>
#include <linux/idr.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "core.h"

/* Protects the registry and every switch; see core.h. */
DEFINE_MUTEX(dynamos_lock);
LIST_HEAD(subsystems);			/* of struct subsystem; dynamos_lock */

static DEFINE_IDA(function_ids);	/* has its own lock */

struct subsystem *subsystem_find(const char *name)
{
	struct subsystem *subsystem;

	lockdep_assert_held(&dynamos_lock);
	list_for_each_entry(subsystem, &subsystems, list)
		if (!strcmp(subsystem->def->name, name))
			return subsystem;
	return NULL;
}

struct edition *edition_find(struct subsystem *subsystem, const char *name)
{
	struct edition *edition;

	lockdep_assert_held(&dynamos_lock);
	list_for_each_entry(edition, &subsystem->editions, list)
		if (!strcmp(edition->def->name, name))
			return edition;
	return NULL;
}

static bool name_is_valid(const char *name)
{
	const char *at;

	for (at = name; *at; at++)
		if (!isalnum(*at) && *at != '_' && *at != '-' && *at != '.')
			return false;
	return at != name && at - name <= DYNAMOS_NAME_MAX;
}

static bool function_is_taken(const char *name)
{
	struct subsystem *subsystem;
	struct function *function;

	list_for_each_entry(subsystem, &subsystems, list)
		list_for_each_entry(function, &subsystem->functions, list)
			if (!strcmp(function->def->name, name))
				return true;
	return false;
}

/* -------------------------------------------------------------------------------------------------- functions */

static void function_remove(struct function *function)
{
	sysfs_remove_function(function);
	if (function->gate)
		gate_destroy(function->gate);
	ida_free(&function_ids, function->def->id);
	function->def->core = NULL;
	list_del(&function->list);
	kobject_put(&function->kobj);
}

static void function_fill(struct dynamos_function *def, unsigned long wrapper)
{
	int index;

	for (index = 0; index < DYNAMOS_MAX_EDITIONS; index++)
		WRITE_ONCE(def->entries[index], wrapper);
}

static int function_add(struct subsystem *subsystem, struct dynamos_function *def)
{
	struct function *function;
	struct gate *gate;
	int id;

	if (!name_is_valid(def->name))
		return -EINVAL;
	if (def->core || function_is_taken(def->name)) {
		pr_err("dynamos: %s: belongs to a subsystem already\n", def->name);
		return -EEXIST;
	}
	function = kzalloc(sizeof(*function), GFP_KERNEL);
	if (!function)
		return -ENOMEM;
	function->subsystem = subsystem;
	function->def = def;
	sysfs_init_function(function);

	id = ida_alloc(&function_ids, GFP_KERNEL);
	if (id < 0) {
		kobject_put(&function->kobj);
		return id;
	}
	def->id = id;
	def->core = function;
	list_add_tail(&function->list, &subsystem->functions);
	function_fill(def, (unsigned long)def->original.wrapper);

	gate = gate_create(def);
	if (IS_ERR(gate)) {
		function_remove(function);
		return PTR_ERR(gate);
	}
	function->gate = gate;
	return 0;
}

static void functions_remove(struct subsystem *subsystem)
{
	struct function *function, *next;

	list_for_each_entry_safe(function, next, &subsystem->functions, list)
		function_remove(function);
}

static int functions_add(struct subsystem *subsystem)
{
	struct dynamos_function *const *def;
	int err;

	for (def = subsystem->def->functions; *def; def++) {
		err = function_add(subsystem, *def);
		if (err)
			return err;
	}
	return list_empty(&subsystem->functions) ? -EINVAL : 0;
}

/* ------------------------------------------------------------------------------------------------------ gates */

static void gates_remove(struct subsystem *subsystem, struct function *end)
{
	struct function *function;

	list_for_each_entry(function, &subsystem->functions, list) {
		if (function == end)
			break;
		if (gate_remove(function->gate)) {
			/* The kernel still calls the gate: its text, the subsystem's module, must never go. */
			__module_get(subsystem->def->owner);
			continue;
		}
		event_emit("ungated", "subsystem=%s function=%s backend=direct",
			   subsystem->def->name, function->def->name);
	}
	subsystem->gated = false;
}

static int gates_install(struct subsystem *subsystem)
{
	struct function *function;
	int err;

	list_for_each_entry(function, &subsystem->functions, list) {
		err = gate_install(function->gate);
		if (err) {
			gates_remove(subsystem, function);
			return err;
		}
		event_emit("gated", "subsystem=%s function=%s backend=%s",
			   subsystem->def->name, function->def->name, gate_backend(function->gate));
	}
	subsystem->gated = true;
	subsystem->original->epoch++;	/* can be called again: a drain of it that is under way is void */
	return 0;
}

/* --------------------------------------------------------------------------------------------------- editions */

static struct edition *edition_create(struct subsystem *subsystem, struct dynamos_edition *def)
{
	struct edition *edition;

	edition = kzalloc(sizeof(*edition), GFP_KERNEL);
	if (!edition)
		return NULL;
	edition->def = def;
	edition->subsystem = subsystem;
	INIT_LIST_HEAD(&edition->counters);
	edition_drain_init(edition);
	sysfs_init_edition(edition);
	return edition;
}

static void edition_publish(struct subsystem *subsystem, struct edition *edition, u32 index)
{
	edition->def->index = index;
	edition->def->core = edition;
	__set_bit(index, &subsystem->indexes);
	list_add_tail(&edition->list, &subsystem->editions);
}

static void edition_unpublish(struct edition *edition)
{
	list_del(&edition->list);
	__clear_bit(edition->def->index, &edition->subsystem->indexes);
	edition->def->core = NULL;
}

/* Sends index to the edition's wrappers, or, with @edition NULL, back to the originals. */
static void entries_write(const struct dynamos_replacement *const *replacement, u32 index, bool to_original)
{
	for (; *replacement; replacement++) {
		struct dynamos_function *function = (*replacement)->function;
		void *wrapper = to_original ? function->original.wrapper : (*replacement)->wrapper;

		WRITE_ONCE(function->entries[index], (unsigned long)wrapper);
	}
}

static bool replacements_are_valid(const struct dynamos_edition *def)
{
	const struct dynamos_replacement *const *one, *const *other;
	const struct function *function;

	if (!def->replacements || !*def->replacements)
		return false;
	for (one = def->replacements; *one; one++) {
		function = (*one)->function->core;
		if (!function || function->subsystem != def->subsystem->core)
			return false;
		for (other = def->replacements; other != one; other++)
			if ((*other)->function == (*one)->function)
				return false;
	}
	return true;
}

static int edition_check(struct subsystem *subsystem, const struct dynamos_edition *def)
{
	if (!subsystem || !name_is_valid(def->name) || !replacements_are_valid(def)) {
		pr_err("dynamos: edition %s: malformed, or it replaces a function of another subsystem\n", def->name);
		return -EINVAL;
	}
	if (edition_find(subsystem, def->name)) {
		pr_err("dynamos: %s has an edition %s already\n", subsystem->def->name, def->name);
		return -EEXIST;
	}
	return 0;
}

static int edition_add(struct dynamos_edition *def)
{
	struct subsystem *subsystem = def->subsystem->core;
	struct edition *edition;
	unsigned long index;
	int err;

	err = edition_check(subsystem, def);
	if (err)
		return err;
	index = find_first_zero_bit(&subsystem->indexes, DYNAMOS_MAX_EDITIONS);
	if (index == DYNAMOS_MAX_EDITIONS)
		return -ENOSPC;
	edition = edition_create(subsystem, def);
	if (!edition)
		return -ENOMEM;

	edition_publish(subsystem, edition, index);
	entries_write(def->replacements, index, false);
	err = sysfs_add_edition(edition);
	if (!err && !subsystem->gated)
		err = gates_install(subsystem);
	if (err) {
		sysfs_remove_edition(edition);
		entries_write(def->replacements, index, true);
		edition_unpublish(edition);
		kobject_put(&edition->kobj);
		return err;
	}
	event_emit("loaded", "subsystem=%s edition=%s module=%s",
		   subsystem->def->name, def->name, module_name(def->owner));
	return 0;
}

static bool is_last_edition(const struct subsystem *subsystem)
{
	return list_is_singular(&subsystem->editions);
}

/*
 * The gates are out. Threads that came through them may sit in the originals' wrappers, whose text is the subsystem's
 * module: then it is kept until they have left. Most often they have, at once.
 */
static void keep_text_of_original(struct subsystem *subsystem)
{
	struct edition *original = subsystem->original;

	wait_for_text();
	mutex_lock(&dynamos_lock);
	if (!subsystem->gated && (original->held || edition_in_flight(original->def))) {
		if (!original->held)
			__module_get(original->def->owner);
		original->held = true;
		original->epoch++;
		WRITE_ONCE(original->left_ns, ktime_get_ns());
		edition_drain_start(original);
	}
	mutex_unlock(&dynamos_lock);
}

int dynamos_register_edition(struct dynamos_edition *edition)
{
	int err;

	mutex_lock(&dynamos_lock);
	err = edition_add(edition);
	mutex_unlock(&dynamos_lock);
	/* Some of the gates may have been in place before one of them failed, and calls gone through. */
	if (err && edition->subsystem->core)
		keep_text_of_original(edition->subsystem->core);
	return err;
}
EXPORT_SYMBOL_GPL(dynamos_register_edition);

/**
 * dynamos_unregister_edition() - the edition's module is going
 * @def: the edition; neither active nor in flight, or a reference to its module would have kept it
 */
void dynamos_unregister_edition(struct dynamos_edition *def)
{
	struct edition *edition = def->core;
	struct subsystem *subsystem = edition->subsystem;

	mutex_lock(&dynamos_lock);
	WARN_ON(edition->held);
	edition_unpublish(edition);
	entries_write(def->replacements, def->index, true);
	if (is_last_edition(subsystem))
		gates_remove(subsystem, NULL);
	event_emit("unloaded", "subsystem=%s edition=%s module=%s",
		   subsystem->def->name, def->name, module_name(def->owner));
	mutex_unlock(&dynamos_lock);

	/* All of these wait for whoever still looks at the edition, and so may not be done under the lock. */
	edition_drain_cancel(edition);
	sysfs_remove_edition(edition);
	synchronize_rcu();
	kobject_put(&edition->kobj);
	keep_text_of_original(subsystem);
}
EXPORT_SYMBOL_GPL(dynamos_unregister_edition);

/* ------------------------------------------------------------------------------------------------- subsystems */

static struct subsystem *subsystem_create(struct dynamos_subsystem *def)
{
	struct subsystem *subsystem;

	subsystem = kzalloc(sizeof(*subsystem), GFP_KERNEL);
	if (!subsystem)
		return NULL;
	subsystem->def = def;
	INIT_LIST_HEAD(&subsystem->list);
	INIT_LIST_HEAD(&subsystem->functions);
	INIT_LIST_HEAD(&subsystem->editions);
	sysfs_init_subsystem(subsystem);
	subsystem->original = edition_create(subsystem, def->original);
	if (!subsystem->original) {
		kobject_put(&subsystem->kobj);
		return NULL;
	}
	edition_publish(subsystem, subsystem->original, 0);
	RCU_INIT_POINTER(subsystem->active, subsystem->original);
	*def->active = 0;
	return subsystem;
}

/* What was built so far, however much that is, goes away. Nothing can be in flight. */
static void subsystem_destroy(struct subsystem *subsystem)
{
	edition_drain_cancel(subsystem->original);
	sysfs_remove_edition(subsystem->original);
	edition_unpublish(subsystem->original);
	functions_remove(subsystem);
	sysfs_remove_subsystem(subsystem);
	synchronize_rcu();
	kobject_put(&subsystem->original->kobj);
	kobject_put(&subsystem->kobj);
}

static int subsystem_show(struct subsystem *subsystem)
{
	struct function *function;
	int err;

	err = sysfs_add_subsystem(subsystem);
	if (err)
		return err;
	list_for_each_entry(function, &subsystem->functions, list) {
		err = sysfs_add_function(function);
		if (err)
			return err;
	}
	return sysfs_add_edition(subsystem->original);
}

static int subsystem_add(struct subsystem *subsystem)
{
	int err;

	lockdep_assert_held(&dynamos_lock);
	if (!name_is_valid(subsystem->def->name))
		return -EINVAL;
	if (subsystem_find(subsystem->def->name)) {
		pr_err("dynamos: there is a subsystem %s already\n", subsystem->def->name);
		return -EEXIST;
	}
	err = functions_add(subsystem);
	if (err)
		return err;
	return subsystem_show(subsystem);
}

int dynamos_register_subsystem(struct dynamos_subsystem *def)
{
	struct subsystem *subsystem;
	int err;

	subsystem = subsystem_create(def);
	if (!subsystem)
		return -ENOMEM;
	mutex_lock(&dynamos_lock);
	err = subsystem_add(subsystem);
	if (!err) {
		def->core = subsystem;
		list_add_tail(&subsystem->list, &subsystems);
		event_emit("registered", "subsystem=%s", def->name);
	}
	mutex_unlock(&dynamos_lock);
	if (err)
		subsystem_destroy(subsystem);
	return err;
}
EXPORT_SYMBOL_GPL(dynamos_register_subsystem);

/* The subsystem's module is going: it has no edition besides the original, and no gate, and nothing is in flight. */
void dynamos_unregister_subsystem(struct dynamos_subsystem *def)
{
	struct subsystem *subsystem = def->core;

	mutex_lock(&dynamos_lock);
	WARN_ON(subsystem->gated || subsystem->original->held);
	list_del(&subsystem->list);
	def->core = NULL;
	event_emit("unregistered", "subsystem=%s", def->name);
	mutex_unlock(&dynamos_lock);
	/* Whoever was counted out of an original after its gate had gone may still be behind its last instruction. */
	wait_for_text();
	subsystem_destroy(subsystem);
}
EXPORT_SYMBOL_GPL(dynamos_unregister_subsystem);
