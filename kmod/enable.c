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

/*
 * The subsystem behind @name (the first of all behind "") in the list. If @name has gone meanwhile, it is begun anew:
 * none comes while the module is off.
 */
static bool next_to_switch(char name[DYNAMOS_NAME_MAX + 1])
{
	struct subsystem *subsystem;
	bool found = false;

	mutex_lock(&dynamos_lock);
	subsystem = subsystem_find(name, NULL);
	subsystem = list_prepare_entry(subsystem, &subsystems, list);
	list_for_each_entry_continue(subsystem, &subsystems, list) {
		strscpy(name, subsystem->def->name, DYNAMOS_NAME_MAX + 1);
		found = true;
		break;
	}
	mutex_unlock(&dynamos_lock);
	return found;
}

/*
 * All that can; the first reason why one could not. Those that are at the original too: a switch away from it may be
 * under way that began before, and is asked to give up.
 */
static int switch_all_off(void)
{
	char name[DYNAMOS_NAME_MAX + 1] = "";
	int first = 0;
	int err;

	while (next_to_switch(name)) {
		err = switch_unasked(name, "original", task_tgid_nr(current), NULL);
		first = first ?: err;
	}
	return first;
}

static int enable_set(const char *value, const struct kernel_param *param)
{
	bool wanted;
	int err;

	err = kstrtobool(value, &wanted);
	if (err)
		return err;
	if (wanted != enabled) {
		WRITE_ONCE(enabled, wanted);
		event_emit(wanted ? "enabled" : "disabled", "by=%d", task_tgid_nr(current));
	}
	/* Also when it is off already: whoever wrote that may have failed, and who asks again wants an answer. */
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
