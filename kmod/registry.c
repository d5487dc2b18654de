// SPDX-License-Identifier: GPL-2.0
/*
 * registry.c - which subsystems and editions there are; edition modules come and go here
 *
 * Registering never switches. A subsystem's gates are installed with its first edition besides the original and
 * taken out with the last, so that a kernel with nothing to switch runs its own untouched text.
 */
#include <linux/ctype.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/rculist.h>
#include <linux/slab.h>

#include "core.h"
#include "mutation.h"

/* Protects the registry and every switch; see core.h. */
DEFINE_MUTEX(dynamos_lock);
LIST_HEAD(subsystems);			/* of struct subsystem; dynamos_lock, and the tripwire reads it by RCU */

/* @request: who asks, and is told when there is none; NULL: nobody. */
struct subsystem *subsystem_find(const char *name, struct request *request)
{
	struct subsystem *subsystem;

	lockdep_assert_held(&dynamos_lock);
	list_for_each_entry(subsystem, &subsystems, list)
		if (!strcmp(subsystem->def->name, name))
			return subsystem;
	if (request)
		request_reason(request, "there is no subsystem %s", name);
	return NULL;
}

/* The same. */
struct edition *edition_find(struct subsystem *subsystem, const char *name, struct request *request)
{
	struct edition *edition;

	lockdep_assert_held(&dynamos_lock);
	list_for_each_entry(edition, &subsystem->editions, list)
		if (!strcmp(edition->def->name, name))
			return edition;
	if (request)
		request_reason(request, "subsystem %s has no edition %s", subsystem->def->name, name);
	return NULL;
}

/* Return: the edition, or an error pointer: -ENOENT no such subsystem, -ENXIO it has no such edition. */
struct edition *edition_by_names(const char *subsystem_name, const char *name, struct request *request)
{
	struct subsystem *subsystem = subsystem_find(subsystem_name, request);

	if (!subsystem)
		return ERR_PTR(-ENOENT);
	return edition_find(subsystem, name, request) ?: ERR_PTR(-ENXIO);
}

bool name_is_valid(const char *name)
{
	const char *at;

	for (at = name; *at; at++)
		if (!isalnum(*at) && *at != '_' && *at != '-' && *at != '.')
			return false;
	return at != name && at - name <= DYNAMOS_NAME_MAX;
}

/* --------------------------------------------------------------------------------------------------- editions */

static struct edition *edition_create(struct subsystem *subsystem, struct dynamos_edition *def)
{
	struct edition *edition;

	edition = failable(kzalloc(sizeof(*edition), GFP_KERNEL), NULL);
	if (!edition)
		return NULL;
	edition->def = def;
	edition->subsystem = subsystem;
	spin_lock_init(&edition->last_lock);
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
	list_add_tail_rcu(&edition->list, &subsystem->editions);
}

static void edition_unpublish(struct edition *edition)
{
	list_del_rcu(&edition->list);
	__clear_bit(edition->def->index, &edition->subsystem->indexes);
	edition->def->core = NULL;
}

/* Sends the edition's number to its wrappers, or back to the originals. */
static void edition_route(const struct dynamos_edition *def, bool to_original)
{
	const struct dynamos_replacement *const *replacement;

	for (replacement = def->replacements; *replacement; replacement++) {
		struct dynamos_function *function = (*replacement)->function;
		void *wrapper = to_original ? function->original.wrapper : (*replacement)->wrapper;

		function_route(function->core, def->index, (unsigned long)wrapper);
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

static bool modes_are_valid(const struct dynamos_edition *def)
{
	return def->traits->modes < 1U << MODES;
}

static int edition_check(struct subsystem *subsystem, const struct dynamos_edition *def, struct request *request)
{
	if (!subsystem || !name_is_valid(def->name) || !replacements_are_valid(def) || !modes_are_valid(def)) {
		request_reason(request, "malformed, or it replaces a function of another subsystem");
		return -EINVAL;
	}
	if (sysfs_name_is_taken(def->name)) {
		request_reason(request, "an edition cannot be named %s: a file of sysfs is", def->name);
		return -EINVAL;
	}
	if (edition_find(subsystem, def->name, NULL)) {
		request_reason(request, "%s has an edition %s already", subsystem->def->name, def->name);
		return -EEXIST;
	}
	return 0;
}

static int edition_show(struct edition *edition, struct request *request)
{
	struct subsystem *subsystem = edition->subsystem;
	int err;

	err = places_update(subsystem, GFP_KERNEL);
	if (!err)
		err = sysfs_add_edition(edition);
	if (!err && !subsystem->gated)
		err = gates_install(subsystem, request);
	return err;
}

static int check_enabled(struct request *request)
{
	if (is_enabled())
		return 0;
	request_reason(request, "the module is switched off (parameter enable)");
	return -EPERM;
}

static int edition_add(struct dynamos_edition *def, struct request *request)
{
	struct subsystem *subsystem = def->subsystem->core;
	struct edition *edition;
	unsigned long index;
	int err;

	err = edition_check(subsystem, def, request);
	if (err)
		return err;
	index = find_first_zero_bit(&subsystem->indexes, DYNAMOS_MAX_EDITIONS);
	if (index == DYNAMOS_MAX_EDITIONS) {
		request_reason(request, "%s has %d editions already", subsystem->def->name, DYNAMOS_MAX_EDITIONS);
		return -ENOSPC;
	}
	edition = edition_create(subsystem, def);
	if (!edition)
		return -ENOMEM;

	edition_publish(subsystem, edition, index);
	edition_route(def, false);
	err = edition_show(edition, request);
	if (err) {
		sysfs_remove_edition(edition);
		edition_route(def, true);
		edition_unpublish(edition);
		places_update(subsystem, GFP_KERNEL | __GFP_NOFAIL);
		/* Calls that end objects have been looking at the list. */
		synchronize_rcu();
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
 * The gates are out. Threads that came through them may sit in the originals' wrappers or in the dispatch slot, whose
 * text is the subsystem's module: then it is kept until they have left. Most often they have, at once.
 */
static void keep_text_of_original(struct subsystem *subsystem)
{
	struct edition *original = subsystem->original;

	wait_for_text();
	mutex_lock(&dynamos_lock);
	if (!subsystem->gated &&
	    (original->held || edition_in_flight(original->def) || passes_in_flight(subsystem))) {
		if (!original->held)
			__module_get(original->def->owner);
		original->held = true;
		original->epoch++;
		WRITE_ONCE(original->left_ns, ktime_get_ns());
		edition_drain_start(original);
	}
	mutex_unlock(&dynamos_lock);
}

static void log_refusal(const char *what, const char *name, const struct request *request, int err)
{
	pr_err("dynamos: %s %s: %s (%d)\n", what, name, request_why(request, err), err);
}

int dynamos_register_edition(struct dynamos_edition *edition)
{
	struct request request = { .by = 0 };
	int err;

	if (!dynamos_mutated(UNLOCKED))
		mutex_lock(&dynamos_lock);
	err = check_enabled(&request);
	if (!err)
		err = edition_add(edition, &request);
	if (!dynamos_mutated(UNLOCKED))
		mutex_unlock(&dynamos_lock);
	if (!err)
		return 0;
	log_refusal("edition", edition->name, &request, err);
	event_refused(&request, err, "load %s/%s", edition->subsystem->name, edition->name);
	/* Some of the gates may have been in place before one of them failed, and calls gone through. */
	if (edition->subsystem->core)
		keep_text_of_original(edition->subsystem->core);
	return err;
}
EXPORT_SYMBOL_GPL(dynamos_register_edition);

/**
 * dynamos_unregister_edition() - the edition's module is going
 * @def: the edition; neither callable nor in flight, or a reference to its module would have kept it
 */
void dynamos_unregister_edition(struct dynamos_edition *def)
{
	struct edition *edition = def->core;
	struct subsystem *subsystem = edition->subsystem;

	mutex_lock(&dynamos_lock);
	WARN_ON(edition->held);
	edition_unpublish(edition);
	edition_route(def, true);
	if (is_last_edition(subsystem))
		gates_remove(subsystem);
	places_update(subsystem, GFP_KERNEL | __GFP_NOFAIL);
	event_emit("unloaded", "subsystem=%s edition=%s module=%s",
		   subsystem->def->name, def->name, module_name(def->owner));
	mutex_unlock(&dynamos_lock);

	/* All of these wait for whoever still looks at the edition, and so may not be done under the lock. */
	edition_drain_cancel(edition);
	sysfs_remove_edition(edition);
	shadows_forget_edition(def);
	synchronize_rcu();
	kobject_put(&edition->kobj);
	keep_text_of_original(subsystem);
}
EXPORT_SYMBOL_GPL(dynamos_unregister_edition);

/* ------------------------------------------------------------------------------------------------- subsystems */

static struct subsystem *subsystem_create(struct dynamos_subsystem *def)
{
	struct subsystem *subsystem;

	subsystem = failable(kzalloc(sizeof(*subsystem), GFP_KERNEL), NULL);
	if (!subsystem)
		return NULL;
	subsystem->def = def;
	INIT_LIST_HEAD(&subsystem->list);
	INIT_LIST_HEAD(&subsystem->functions);
	INIT_LIST_HEAD(&subsystem->editions);
	mutex_init(&subsystem->switching);
	pass_init(subsystem);
	looking_init(subsystem);
	lease_init(subsystem);
	rescue_init(subsystem);
	migration_init(subsystem);
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
	cancel_delayed_work_sync(&subsystem->looking);
	cancel_delayed_work_sync(&subsystem->migration);
	cancel_delayed_work_sync(&subsystem->rescue);
	lease_cancel(subsystem);
	sysfs_remove_edition(subsystem->original);
	edition_unpublish(subsystem->original);
	functions_remove(subsystem);
	sysfs_remove_subsystem(subsystem);
	places_free(subsystem);
	objects_free(subsystem);
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

static int subsystem_add(struct subsystem *subsystem, struct request *request)
{
	int err;

	lockdep_assert_held(&dynamos_lock);
	/* The version of the module is beside it in sysfs. */
	if (!name_is_valid(subsystem->def->name) || !strcmp(subsystem->def->name, "version")) {
		request_reason(request, "malformed name");
		return -EINVAL;
	}
	if (subsystem_find(subsystem->def->name, NULL)) {
		request_reason(request, "there is a subsystem %s already", subsystem->def->name);
		return -EEXIST;
	}
	err = functions_add(subsystem, request);
	if (!err)
		err = places_update(subsystem, GFP_KERNEL);
	if (!err)
		err = subsystem_show(subsystem);
	return err;
}

static int subsystem_register(struct subsystem *subsystem, struct request *request)
{
	int err;

	mutex_lock(&dynamos_lock);
	err = check_enabled(request);
	if (!err)
		err = subsystem_add(subsystem, request);
	if (!err) {
		subsystem->def->core = subsystem;
		list_add_tail_rcu(&subsystem->list, &subsystems);
		event_emit("registered", "subsystem=%s", subsystem->def->name);
	}
	mutex_unlock(&dynamos_lock);
	if (err)
		subsystem_destroy(subsystem);
	return err;
}

int dynamos_register_subsystem(struct dynamos_subsystem *def)
{
	struct request request = { .by = 0 };
	struct subsystem *subsystem;
	int err;

	subsystem = subsystem_create(def);
	err = subsystem ? subsystem_register(subsystem, &request) : -ENOMEM;
	if (!err)
		return 0;
	log_refusal("subsystem", def->name, &request, err);
	event_refused(&request, err, "load %s", def->name);
	return err;
}
EXPORT_SYMBOL_GPL(dynamos_register_subsystem);

/* The subsystem's module is going: it has no edition besides the original, and no gate, and nothing is in flight. */
void dynamos_unregister_subsystem(struct dynamos_subsystem *def)
{
	struct subsystem *subsystem = def->core;

	mutex_lock(&dynamos_lock);
	WARN_ON(subsystem->gated || subsystem->original->held);
	list_del_rcu(&subsystem->list);
	def->core = NULL;
	lease_end(subsystem);
	event_emit("unregistered", "subsystem=%s", def->name);
	mutex_unlock(&dynamos_lock);
	/* A fault that is being looked at. */
	synchronize_rcu();
	/* Whoever was counted out of an original after its gate had gone may still be behind its last instruction. */
	wait_for_text();
	subsystem_destroy(subsystem);
}
EXPORT_SYMBOL_GPL(dynamos_unregister_subsystem);
