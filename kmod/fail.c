// SPDX-License-Identifier: GPL-2.0
/*
 * fail.c - steps that are made to fail, for tests
 *
 * Whatever may fail (an allocation, a registration, a callback of an author's) is a step, and written as
 * failable(what, how it fails). Each is counted while the parameter fail_step is not 0; the one that comes to its
 * number is not taken but fails, once. What becomes of that must be what becomes of a true failure there.
 *
 * Taking a gate out is no step: when ftrace refuses that, it has given up on itself, and nothing can be undone.
 */
#include <linux/atomic.h>
#include <linux/kstrtox.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>

#include "core.h"

static unsigned int fail_step;			/* written under kernel_param_lock(); 0: none */
static atomic_t steps;				/* since it was written */
static const char *failed;			/* the function of the step that was made to fail; NULL: none yet */

/* Any context. */
bool step_fails(const char *function)
{
	unsigned int wanted = READ_ONCE(fail_step);

	if (likely(!wanted) || atomic_inc_return(&steps) != wanted)
		return false;
	WRITE_ONCE(failed, function);
	pr_info("dynamos: a step in %s is made to fail\n", function);
	return true;
}

static int fail_set(const char *value, const struct kernel_param *param)
{
	unsigned int wanted;
	int err;

	err = kstrtouint(value, 10, &wanted);
	if (err)
		return err;
	WRITE_ONCE(fail_step, 0);
	atomic_set(&steps, 0);
	WRITE_ONCE(failed, NULL);
	WRITE_ONCE(fail_step, wanted);
	return 0;
}

static int fail_get(char *buffer, const struct kernel_param *param)
{
	return sprintf(buffer, "steps=%d failed=%s\n", atomic_read(&steps), READ_ONCE(failed) ?: "none");
}

static const struct kernel_param_ops fail_ops = {
	.set = fail_set,
	.get = fail_get,
};
module_param_cb(fail_step, &fail_ops, NULL, 0600);
MODULE_PARM_DESC(fail_step, "for tests: the number of the step, from now on, that fails; 0: none");
