// SPDX-License-Identifier: GPL-2.0
/*
 * sysfs.c - /sys/kernel/dynamos: what there is, one value a file (docs/abi.md)
 *
 * Nothing here takes dynamos_lock, so that reading goes on while a switch waits. Removing a folder waits for those
 * who are reading in it; what a file shows therefore only needs to live as long as its folder.
 */
#include <linux/kobject.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "core.h"

static struct kobject *root;

#define SHOW(name) \
	static ssize_t name##_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
#define READ_ONLY(name) \
	static struct kobj_attribute name##_attribute = __ATTR_RO(name)

SHOW(version)
{
	return sysfs_emit(buf, "%s\n", DYNAMOS_VERSION);
}

READ_ONLY(version);

/* ------------------------------------------------------------------------------------------------- subsystem */

static struct subsystem *to_subsystem(struct kobject *kobj)
{
	return container_of(kobj, struct subsystem, kobj);
}

SHOW(active)
{
	struct subsystem *subsystem = to_subsystem(kobj);
	ssize_t length;

	/* The edition may be unloaded meanwhile: it is freed, and its module goes, after an RCU grace period. */
	rcu_read_lock();
	length = sysfs_emit(buf, "%s\n", rcu_dereference(subsystem->active)->def->name);
	rcu_read_unlock();
	return length;
}

READ_ONLY(active);

SHOW(partial)
{
	struct edition *partial;
	ssize_t length;

	rcu_read_lock();
	partial = rcu_dereference(to_subsystem(kobj)->partial);
	length = sysfs_emit(buf, "%s\n", partial ? partial->def->name : "none");
	rcu_read_unlock();
	return length;
}

READ_ONLY(partial);

SHOW(mode)
{
	return sysfs_emit(buf, "%s\n", mode_name(READ_ONCE(to_subsystem(kobj)->mode)));
}

READ_ONLY(mode);

SHOW(scope)
{
	struct scope *scope;
	ssize_t length;

	/* Freed after a tasks-RCU grace period, which this does not sleep through. */
	rcu_read_lock();
	scope = rcu_dereference(to_subsystem(kobj)->scope);
	length = sysfs_emit(buf, "%s\n", scope ? scope_text(scope) : "none");
	rcu_read_unlock();
	return length;
}

READ_ONLY(scope);

SHOW(held)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&to_subsystem(kobj)->held));
}

READ_ONLY(held);

SHOW(objects)
{
	struct subsystem *subsystem = to_subsystem(kobj);

	return sysfs_emit(buf, "%u\n", READ_ONCE(subsystem->per_object) ? objects_count(subsystem) : 0);
}

READ_ONLY(objects);

SHOW(before_gate)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(to_subsystem(kobj)->before_gate));
}

READ_ONLY(before_gate);

SHOW(unreliable)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(to_subsystem(kobj)->unreliable));
}

READ_ONLY(unreliable);

SHOW(switches)
{
	return sysfs_emit(buf, "%lu\n", READ_ONCE(to_subsystem(kobj)->switches));
}

READ_ONLY(switches);

SHOW(lease)
{
	return sysfs_emit(buf, "%s\n", lease_name(READ_ONCE(to_subsystem(kobj)->lease.state)));
}

READ_ONLY(lease);

SHOW(lease_holder)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(to_subsystem(kobj)->lease.pid));
}

READ_ONLY(lease_holder);

static struct attribute *subsystem_attrs[] = {
	&active_attribute.attr,
	&partial_attribute.attr,
	&mode_attribute.attr,
	&scope_attribute.attr,
	&held_attribute.attr,
	&objects_attribute.attr,
	&before_gate_attribute.attr,
	&unreliable_attribute.attr,
	&switches_attribute.attr,
	&lease_attribute.attr,
	&lease_holder_attribute.attr,
	NULL
};
ATTRIBUTE_GROUPS(subsystem);

static void subsystem_release(struct kobject *kobj)
{
	kfree(to_subsystem(kobj));
}

static const struct kobj_type subsystem_type = {
	.sysfs_ops = &kobj_sysfs_ops,
	.release = subsystem_release,
	.default_groups = subsystem_groups,
};

/* -------------------------------------------------------------------------------------------------- editions */

static struct edition *to_edition(struct kobject *kobj)
{
	return container_of(kobj, struct edition, kobj);
}

SHOW(index)
{
	return sysfs_emit(buf, "%u\n", to_edition(kobj)->def->index);
}

READ_ONLY(index);

SHOW(state)
{
	struct edition *edition = to_edition(kobj);
	const char *state = "idle";

	if (rcu_access_pointer(edition->subsystem->active) == edition)
		state = "active";
	else if (rcu_access_pointer(edition->subsystem->partial) == edition)
		state = "partial";
	else if (edition_in_flight(edition->def))
		state = "draining";
	return sysfs_emit(buf, "%s\n", state);
}

READ_ONLY(state);

SHOW(module)
{
	return sysfs_emit(buf, "%s\n", module_name(to_edition(kobj)->def->owner));
}

READ_ONLY(module);

SHOW(modes)
{
	u32 modes = edition_modes(to_edition(kobj));
	int mode, length = 0;

	for (mode = 0; mode < MODES; mode++)
		if (modes & 1U << mode)
			length += sysfs_emit_at(buf, length, "%s%s", length ? " " : "", mode_name(mode));
	return length + sysfs_emit_at(buf, length, "\n");
}

READ_ONLY(modes);

SHOW(quarantine)
{
	return sysfs_emit(buf, "%s\n", why_name(READ_ONCE(to_edition(kobj)->quarantine)));
}

READ_ONLY(quarantine);

SHOW(died)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&to_edition(kobj)->died));
}

READ_ONLY(died);

static struct attribute *edition_attrs[] = {
	&index_attribute.attr,
	&state_attribute.attr,
	&module_attribute.attr,
	&modes_attribute.attr,
	&quarantine_attribute.attr,
	&died_attribute.attr,
	NULL
};
ATTRIBUTE_GROUPS(edition);

static void edition_release(struct kobject *kobj)
{
	kfree(to_edition(kobj));
}

static const struct kobj_type edition_type = {
	.sysfs_ops = &kobj_sysfs_ops,
	.release = edition_release,
	.default_groups = edition_groups,
};

/* ------------------------------------------------------------------------------------------------- functions */

static struct function *to_function(struct kobject *kobj)
{
	return container_of(kobj, struct function, kobj);
}

SHOW(id)
{
	return sysfs_emit(buf, "%u\n", to_function(kobj)->def->id);
}

READ_ONLY(id);

SHOW(backend)
{
	return sysfs_emit(buf, "%s\n", READ_ONCE(to_function(kobj)->backend));
}

READ_ONLY(backend);

SHOW(address)
{
	return sysfs_emit(buf, "%#lx\n", READ_ONCE(to_function(kobj)->address));
}

static struct kobj_attribute address_attribute = {
	.attr = { .name = "address", .mode = 0400 },
	.show = address_show,
};

static struct attribute *function_attrs[] = {
	&id_attribute.attr,
	&backend_attribute.attr,
	&address_attribute.attr,
	NULL
};
ATTRIBUTE_GROUPS(function);

/* An edition's folder stands beside these. */
bool sysfs_name_is_taken(const char *edition)
{
	struct attribute *const *attribute;

	for (attribute = function_attrs; *attribute; attribute++)
		if (!strcmp((*attribute)->name, edition))
			return true;
	return false;
}

static void function_release(struct kobject *kobj)
{
	kfree(to_function(kobj));
}

static const struct kobj_type function_type = {
	.sysfs_ops = &kobj_sysfs_ops,
	.release = function_release,
	.default_groups = function_groups,
};

/* -------------------------------------------------------------------------------------------------- counters */

static struct counter *to_counter(struct kobject *kobj)
{
	return container_of(kobj, struct counter, kobj);
}

SHOW(calls)
{
	return sysfs_emit(buf, "%lu\n", counts_entered(to_counter(kobj)->replacement->counts));
}

READ_ONLY(calls);

SHOW(in_flight)
{
	return sysfs_emit(buf, "%lu\n", counts_in_flight(to_counter(kobj)->replacement->counts));
}

READ_ONLY(in_flight);

static struct attribute *counter_attrs[] = {
	&calls_attribute.attr,
	&in_flight_attribute.attr,
	NULL
};
ATTRIBUTE_GROUPS(counter);

static void counter_release(struct kobject *kobj)
{
	kfree(to_counter(kobj));
}

static const struct kobj_type counter_type = {
	.sysfs_ops = &kobj_sysfs_ops,
	.release = counter_release,
	.default_groups = counter_groups,
};

static int counter_add(struct edition *edition, const struct dynamos_replacement *replacement)
{
	struct function *function = replacement->function->core;
	struct counter *counter;
	int err;

	counter = failable(kzalloc(sizeof(*counter), GFP_KERNEL), NULL);
	if (!counter)
		return -ENOMEM;
	counter->replacement = replacement;
	kobject_init(&counter->kobj, &counter_type);
	err = failable(kobject_add(&counter->kobj, &function->kobj, "%s", edition->def->name), -ENOMEM);
	if (err) {
		kobject_put(&counter->kobj);
		return err;
	}
	list_add_tail(&counter->list, &edition->counters);
	return 0;
}

static int counters_add(struct edition *edition)
{
	const struct dynamos_replacement *const *replacement;
	struct function *function;
	int err;

	if (edition->def->replacements) {
		for (replacement = edition->def->replacements; *replacement; replacement++) {
			err = counter_add(edition, *replacement);
			if (err)
				return err;
		}
		return 0;
	}
	list_for_each_entry(function, &edition->subsystem->functions, list) {
		err = counter_add(edition, &function->def->original);
		if (err)
			return err;
	}
	return 0;
}

/* ----------------------------------------------------------------------------------------------- for the rest */

void sysfs_init_subsystem(struct subsystem *subsystem)
{
	kobject_init(&subsystem->kobj, &subsystem_type);
}

void sysfs_init_function(struct function *function)
{
	kobject_init(&function->kobj, &function_type);
}

void sysfs_init_edition(struct edition *edition)
{
	kobject_init(&edition->kobj, &edition_type);
}

/* Returns when nobody reads in the folder any more; one that was never added is let be. */
static void remove_folder(struct kobject *kobj)
{
	if (kobj->state_in_sysfs)
		kobject_del(kobj);
}

/* The caller undoes what failed half-way with sysfs_remove_subsystem(). */
int sysfs_add_subsystem(struct subsystem *subsystem)
{
	int err;

	err = failable(kobject_add(&subsystem->kobj, root, "%s", subsystem->def->name), -ENOMEM);
	if (err)
		return err;
	subsystem->editions_dir = failable(kobject_create_and_add("editions", &subsystem->kobj), NULL);
	subsystem->functions_dir = failable(kobject_create_and_add("functions", &subsystem->kobj), NULL);
	return subsystem->editions_dir && subsystem->functions_dir ? 0 : -ENOMEM;
}

/* Its functions and editions have gone before. */
void sysfs_remove_subsystem(struct subsystem *subsystem)
{
	kobject_put(subsystem->editions_dir);
	kobject_put(subsystem->functions_dir);
	remove_folder(&subsystem->kobj);
}

int sysfs_add_function(struct function *function)
{
	struct kobject *dir = function->subsystem->functions_dir;

	return failable(kobject_add(&function->kobj, dir, "%s", function->def->name), -ENOMEM);
}

void sysfs_remove_function(struct function *function)
{
	remove_folder(&function->kobj);
}

/* The caller undoes what failed half-way with sysfs_remove_edition(). */
int sysfs_add_edition(struct edition *edition)
{
	struct kobject *dir = edition->subsystem->editions_dir;
	int err;

	err = failable(kobject_add(&edition->kobj, dir, "%s", edition->def->name), -ENOMEM);
	if (!err)
		err = counters_add(edition);
	if (!err)
		err = parameters_show(edition);
	return err;
}

/* Returns when nobody reads the edition's files any more. */
void sysfs_remove_edition(struct edition *edition)
{
	struct counter *counter, *next;

	parameters_hide(edition);
	list_for_each_entry_safe(counter, next, &edition->counters, list) {
		list_del(&counter->list);
		remove_folder(&counter->kobj);
		kobject_put(&counter->kobj);
	}
	remove_folder(&edition->kobj);
}

int sysfs_start(void)
{
	int err;

	root = failable(kobject_create_and_add("dynamos", kernel_kobj), NULL);
	if (!root)
		return -ENOMEM;
	err = failable(sysfs_create_file(root, &version_attribute.attr), -ENOMEM);
	if (err)
		kobject_put(root);
	return err;
}

void sysfs_stop(void)
{
	kobject_put(root);
}
