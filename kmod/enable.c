// SPDX-License-Identifier: GPL-2.0
/*
 * enable.c - the parameter that keeps everything off
 *
 * dynamos.enable=0 on the kernel's command line, or when the module is loaded: nothing is registered, and no gate
 * installed. Written to /sys/module/dynamos/parameters/enable later: everything goes to the original, and stays there.
 */
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "core.h"

static bool enabled = true;			/* written under kernel_param_lock() */

bool is_enabled(void)
{
	return READ_ONCE(enabled);
}

/* The first subsystem behind @name (the first of all behind "") in the list that is not at its original. */
static bool next_to_switch(char name[DYNAMOS_NAME_MAX + 1])
{
	struct subsystem *subsystem;
	bool behind = !*name, found = false;

	mutex_lock(&dynamos_lock);
	list_for_each_entry(subsystem, &subsystems, list) {
		if (!behind) {
			behind = !strcmp(subsystem->def->name, name);
			continue;
		}
		if (active_edition(subsystem) == subsystem->original && !partial_edition(subsystem))
			continue;
		strscpy(name, subsystem->def->name, DYNAMOS_NAME_MAX + 1);
		found = true;
		break;
	}
	mutex_unlock(&dynamos_lock);
	return found;
}

/* All that can; the first reason why one could not. */
static int switch_all_off(void)
{
	char name[DYNAMOS_NAME_MAX + 1] = "";
	int first = 0;
	int err;

	while (next_to_switch(name)) {
		err = switch_unasked(name, "original", task_tgid_nr(current));
		first = first ?: err;
	}
	return first;
}

static int enable_set(const char *value, const struct kernel_param *param)
{
	bool wanted;
	int err;

	err = kstrtobool(value, &wanted);
	if (err || wanted == enabled)
		return err;
	WRITE_ONCE(enabled, wanted);
	event_emit(wanted ? "enabled" : "disabled", "by=%d", task_tgid_nr(current));
	return wanted ? 0 : switch_all_off();
}

static int enable_get(char *buffer, const struct kernel_param *param)
{
	return sprintf(buffer, "%d\n", enabled);
}

static const struct kernel_param_ops enable_ops = {
	.set = enable_set,
	.get = enable_get,
};
module_param_cb(enable, &enable_ops, NULL, 0644);
MODULE_PARM_DESC(enable, "0: install no gate, and keep every subsystem at its original");
