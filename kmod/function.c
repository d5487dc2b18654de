// SPDX-License-Identifier: GPL-2.0
/*
 * function.c - a subsystem's functions: found, gated, and waited for while their module is not there
 *
 * A function of the kernel itself must be there when its subsystem is registered. One of a module (traits->home) may
 * come later: it waits, and gets its gate when the module is loaded, before the module's own init has run. When that
 * module goes, the function's gate goes first; the rest of the subsystem stays as it is.
 */
#include <linux/idr.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "core.h"

static DEFINE_IDA(function_ids);	/* has its own lock */

static bool function_is_taken(const struct dynamos_function *def)
{
	struct subsystem *subsystem;
	struct function *function;

	list_for_each_entry(subsystem, &subsystems, list)
		list_for_each_entry(function, &subsystem->functions, list)
			if (!strcmp(function->def->name, def->name))
				return true;
	return false;
}

/**
 * function_route() - send calls of one edition number to a wrapper
 * @function: the function; its death of objects must not be missed, whatever the edition: those calls are dispatched
 * @index: the edition's number
 * @wrapper: address of a wrapper
 */
void function_route(struct function *function, u32 index, unsigned long wrapper)
{
	struct dynamos_function *def = function->def;
	bool dispatched = def->traits->role == DYNAMOS_DEATH;

	WRITE_ONCE(function->wrappers[index], wrapper);
	WRITE_ONCE(def->entries[index], dispatched ? (unsigned long)def->dispatch.wrapper : wrapper);
}

static void function_fill(struct function *function)
{
	struct dynamos_function *def = function->def;
	u32 index;

	for (index = 0; index < DYNAMOS_MAX_EDITIONS; index++)
		function_route(function, index, (unsigned long)def->original.wrapper);
	WRITE_ONCE(def->entries[DYNAMOS_SLOT_DISPATCH], (unsigned long)def->dispatch.wrapper);
	WRITE_ONCE(def->entries[DYNAMOS_SLOT_CHOOSE], (unsigned long)def->choose);
	WRITE_ONCE(def->entries[DYNAMOS_SLOT_CPU], (unsigned long)def->choose_cpu);
	WRITE_ONCE(def->entries[DYNAMOS_SLOT_TASK], (unsigned long)def->choose_task);
}

/* ------------------------------------------------------------------------------------------------ finding them */

static void show_state(struct function *function)
{
	WRITE_ONCE(function->address, function->gate ? gate_site(function->gate) : 0);
	WRITE_ONCE(function->backend, function->gate ? gate_backend(function->gate) : "waiting");
}

static int function_find(struct function *function, struct request *request)
{
	struct gate *gate;

	gate = gate_create(function->def, request);
	if (IS_ERR(gate))
		return PTR_ERR(gate);
	function->gate = gate;
	show_state(function);
	return 0;
}

static void function_lose(struct function *function)
{
	if (function->gate)
		gate_destroy(function->gate);
	function->gate = NULL;
	show_state(function);
}

static void say_waiting(const struct function *function)
{
	event_emit("waiting", "subsystem=%s function=%s module=%s", function->subsystem->def->name,
		   function->def->name, function->def->traits->home);
}

static int function_add(struct subsystem *subsystem, struct dynamos_function *def, struct request *request)
{
	struct function *function;
	int err;
	int id;

	if (!name_is_valid(def->name) || def->subsystem != subsystem->def) {
		request_reason(request, "%.64s: malformed, or another subsystem's", def->name);
		return -EINVAL;
	}
	if (def->core || function_is_taken(def)) {
		request_reason(request, "%s: belongs to a subsystem already", def->name);
		return -EEXIST;
	}
	function = failable(kzalloc(sizeof(*function), GFP_KERNEL), NULL);
	if (!function)
		return -ENOMEM;
	function->subsystem = subsystem;
	function->def = def;
	function->backend = "waiting";
	sysfs_init_function(function);

	id = failable(ida_alloc(&function_ids, GFP_KERNEL), -ENOMEM);
	if (id < 0) {
		kobject_put(&function->kobj);
		return id;
	}
	def->id = id;
	def->core = function;
	list_add_tail(&function->list, &subsystem->functions);
	function_fill(function);
	err = function_find(function, request);
	if (err == -ENOENT && def->traits->home) {
		say_waiting(function);
		return 0;
	}
	return err;
}

static void function_remove(struct function *function)
{
	sysfs_remove_function(function);
	function_lose(function);
	ida_free(&function_ids, function->def->id);
	function->def->core = NULL;
	list_del(&function->list);
	kobject_put(&function->kobj);
}

void functions_remove(struct subsystem *subsystem)
{
	struct function *function, *next;

	list_for_each_entry_safe(function, next, &subsystem->functions, list)
		function_remove(function);
}

/* What failed half-way is undone by the caller, with functions_remove(). */
int functions_add(struct subsystem *subsystem, struct request *request)
{
	struct dynamos_function *const *def;
	int err;

	for (def = subsystem->def->functions; *def; def++) {
		err = function_add(subsystem, *def, request);
		if (err)
			return err;
	}
	return list_empty(&subsystem->functions) ? -EINVAL : 0;
}

/* ------------------------------------------------------------------------------------------------------- gates */

static int function_gate(struct function *function, struct request *request)
{
	int err;

	err = gate_install(function->gate, request);
	show_state(function);
	if (!err)
		event_emit("gated", "subsystem=%s function=%s backend=%s", function->subsystem->def->name,
			   function->def->name, function->backend);
	return err;
}

static void function_ungate(struct function *function)
{
	const char *backend = gate_backend(function->gate);

	if (gate_remove(function->gate)) {
		/* The kernel still calls the gate: it, and its text, the subsystem's module, must never go. */
		__module_get(function->subsystem->def->owner);
		function->gate = NULL;
		return;
	}
	show_state(function);
	event_emit("ungated", "subsystem=%s function=%s backend=%s", function->subsystem->def->name,
		   function->def->name, backend);
}

static void gates_remove_until(struct subsystem *subsystem, struct function *end)
{
	struct function *function;

	list_for_each_entry(function, &subsystem->functions, list) {
		if (function == end)
			break;
		if (function->gate)
			function_ungate(function);
	}
	subsystem->gated = false;
}

void gates_remove(struct subsystem *subsystem)
{
	lockdep_assert_held(&dynamos_lock);
	gates_remove_until(subsystem, NULL);
}

/* All functions that are there, or none. */
int gates_install(struct subsystem *subsystem, struct request *request)
{
	struct function *function;
	int err;

	lockdep_assert_held(&dynamos_lock);
	list_for_each_entry(function, &subsystem->functions, list) {
		if (!function->gate)
			continue;
		err = function_gate(function, request);
		if (err) {
			gates_remove_until(subsystem, function);
			return err;
		}
	}
	subsystem->gated = true;
	subsystem->original->epoch++;	/* can be called again: a drain of it that is under way is void */
	looking_start(subsystem);
	return 0;
}

/* -------------------------------------------------------------------------------------- modules that come and go */

static void function_comes(struct function *function)
{
	struct request request = { .by = 0 };
	int err;

	err = function_find(function, &request);
	if (!err)
		err = places_update(function->subsystem, GFP_KERNEL);
	if (!err && function->subsystem->gated)
		err = function_gate(function, &request);
	if (err)
		/* Its calls are not switched. The module is not to blame, and is loaded all the same. */
		event_refused(&request, err, "load %s:%s", function->def->traits->home, function->def->name);
	else if (function->subsystem->gated)
		looking_start(function->subsystem);
}

static void function_goes(struct function *function)
{
	if (!function->gate)
		return;
	function_ungate(function);
	/* An edition may still call the original of one function from another. */
	function->def->bind(0);
	function_lose(function);
	places_update(function->subsystem, GFP_KERNEL | __GFP_NOFAIL);
	say_waiting(function);
}

static void module_changes(const char *name, void (*change)(struct function *function))
{
	struct subsystem *subsystem;
	struct function *function;

	mutex_lock(&dynamos_lock);
	list_for_each_entry(subsystem, &subsystems, list)
		list_for_each_entry(function, &subsystem->functions, list)
			if (function->def->traits->home && !strcmp(function->def->traits->home, name))
				change(function);
	mutex_unlock(&dynamos_lock);
}

/* A module that comes can be traced already, and has not run yet; one that goes has run its exit. */
static int module_event(struct notifier_block *block, unsigned long event, void *data)
{
	struct module *module = data;

	if (event == MODULE_STATE_COMING)
		module_changes(module->name, function_comes);
	else if (event == MODULE_STATE_GOING)
		module_changes(module->name, function_goes);
	return NOTIFY_OK;
}

static struct notifier_block module_notifier = {
	.notifier_call = module_event,
};

int functions_start(void)
{
	return failable(register_module_notifier(&module_notifier), -ENOMEM);
}

void functions_stop(void)
{
	unregister_module_notifier(&module_notifier);
}
