// SPDX-License-Identifier: GPL-2.0
/*
 * selftest/failing - of target_value, target_use and target_new each call number `errors_in` is refused with EIO
 *
 * All their calls are counted together, from the time when `errors_in` was set. What is not refused is the original's.
 */
#include <linux/atomic.h>
#include <linux/err.h>
#include <linux/moduleparam.h>

#include "selftest.h"

static unsigned int errors_in;
static atomic_t calls = ATOMIC_INIT(0);

static int set_errors_in(const char *value, const struct kernel_param *param)
{
	int err = param_set_uint(value, param);

	if (!err)
		atomic_set(&calls, 0);
	return err;
}

static const struct kernel_param_ops errors_in_ops = {
	.set = set_errors_in,
	.get = param_get_uint,
};
module_param_cb(errors_in, &errors_in_ops, &errors_in, 0644);
MODULE_PARM_DESC(errors_in, "every such call fails: 1 all of them, 0 none");

static bool fails(void)
{
	unsigned int every = READ_ONCE(errors_in);

	return every && (unsigned int)atomic_inc_return(&calls) % every == 0;
}

static int failing_value(int n)
{
	return fails() ? -EIO : dynamos_original(target_value)(n);
}

static long failing_use(struct target_object *o)
{
	return fails() ? -EIO : dynamos_original(target_use)(o);
}

static struct target_object *failing_new(long key)
{
	return fails() ? ERR_PTR(-EIO) : dynamos_original(target_new)(key);
}

DYNAMOS_REPLACE(failing, target_value, failing_value);
DYNAMOS_REPLACE(failing, target_use, failing_use);
DYNAMOS_REPLACE(failing, target_new, failing_new);

DYNAMOS_EDITION(selftest, failing,
		DYNAMOS_REPLACEMENT(failing, target_value),
		DYNAMOS_REPLACEMENT(failing, target_use),
		DYNAMOS_REPLACEMENT(failing, target_new));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition selftest/failing: returns errors");
MODULE_LICENSE("GPL");
