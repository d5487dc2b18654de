// SPDX-License-Identifier: GPL-2.0
/*
 * dynamos_selftest_any - a gate that leads straight back, at the entries of any functions
 *
 * For the tests of who says which functions can be gated: it needs no prototype, because it touches no register. Names
 * that are written to its parameter, by blanks, get such a gate, all at once; those that had one before lose it.
 */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/linkage.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <asm/ibt.h>

#include "../compat.h"

/* Called by a function's __fentry__ site, with the place behind it as the return address. */
asm(
	"	.pushsection .text, \"ax\"\n"
	"	.type any_gate, @function\n"
	"any_gate:\n"
	"	" ASM_ENDBR
	"	" ASM_RET
	"	.size any_gate, .-any_gate\n"
	"	.popsection\n"
);
extern void any_gate(void);

static struct ftrace_ops *installed;		/* the module's kernel_param_lock() */

/* A kprobe that is never armed is the way in which a module may ask where a function is. */
static int add(struct ftrace_ops *ops, const char *name)
{
	struct kprobe probe = {
		.symbol_name = name,
		.flags = KPROBE_FLAG_DISABLED,
	};
	int err = register_kprobe(&probe);

	if (err)
		return err;
	err = ftrace_set_filter_ip(ops, (unsigned long)probe.addr, 0, 0);
	unregister_kprobe(&probe);
	return err;
}

static int add_all(struct ftrace_ops *ops, char *names)
{
	char *name;
	int err;

	while ((name = strsep(&names, "\n "))) {
		err = *name ? add(ops, name) : 0;
		if (err) {
			pr_info("dynamos: %s has no entry for a gate (%d)\n", name, err);
			return err;
		}
	}
	return 0;
}

static void discard(struct ftrace_ops *ops)
{
	ftrace_free_filter(ops);
	kfree(ops);
}

/* What could not be taken out stays known, and nothing else is put in. */
static int take_out(void)
{
	int err;

	if (!installed)
		return 0;
	err = compat_unregister_direct(installed, (unsigned long)any_gate);
	if (WARN_ON(err))
		return err;
	discard(installed);
	installed = NULL;
	return 0;
}

static int put_in(char *names)
{
	struct ftrace_ops *ops = kzalloc(sizeof(*ops), GFP_KERNEL);
	int err;

	if (!ops)
		return -ENOMEM;
	err = add_all(ops, names);
	if (!err)
		err = compat_register_direct(ops, (unsigned long)any_gate);
	if (err)
		discard(ops);
	else
		installed = ops;
	return err;
}

static int functions_set(const char *value, const struct kernel_param *param)
{
	char *names = kstrdup(value, GFP_KERNEL);
	int err;

	if (!names)
		return -ENOMEM;
	err = take_out();
	if (!err && *strim(names))
		err = put_in(names);
	kfree(names);
	return err;
}

static const struct kernel_param_ops functions_ops = {
	.set = functions_set,
};
module_param_cb(functions, &functions_ops, NULL, 0200);
MODULE_PARM_DESC(functions, "names of functions, by blanks, that have the gate now");

static int __init any_init(void)
{
	return 0;
}

static void __exit any_exit(void)
{
	kernel_param_lock(THIS_MODULE);
	take_out();
	kernel_param_unlock(THIS_MODULE);
	/* Somebody may have been taken from the CPU in the gate. */
	synchronize_rcu_tasks();
}

module_init(any_init);
module_exit(any_exit);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("A gate that leads straight back, at any functions, for the self-test of dynamos");
MODULE_LICENSE("GPL");
