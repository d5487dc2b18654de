// SPDX-License-Identifier: GPL-2.0
/*
 * dynamos_livepatch - a livepatch of target_value(): 7 more than its argument
 *
 * For the tests of a function that livepatch holds already, or wants while a gate is there. It goes by writing 0 to
 * /sys/kernel/livepatch/dynamos_livepatch/enabled, then rmmod.
 */
#include <linux/livepatch.h>
#include <linux/module.h>

static int patched_value(int n)
{
	return n + 7;
}

static struct klp_func functions[] = {
	{
		.old_name = "target_value",
		.new_func = patched_value,
	}, { }
};

static struct klp_object objects[] = {
	{
		.name = "dynamos_target",
		.funcs = functions,
	}, { }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
};

static int __init livepatch_init(void)
{
	return klp_enable_patch(&patch);
}

/* livepatch holds a reference until the patch is disabled, and takes it out by itself. */
static void __exit livepatch_exit(void)
{
}

module_init(livepatch_init);
module_exit(livepatch_exit);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("A livepatch of a function that the self-test of dynamos gates");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
