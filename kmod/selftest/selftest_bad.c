// SPDX-License-Identifier: GPL-2.0
/*
 * selftest/bad - an edition that misbehaves when told to: target_value, 4000 more
 *
 * `deed` says what it does, `where` in which of its parts. Only for a machine that may be lost.
 */
#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/delay.h>
#include <linux/moduleparam.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "selftest.h"

#define MORE 4000

enum { NOTHING, POINTER, CALL, TRAP, WARNING, ATOMIC, FOREVER };
static const char *const deeds[] = { "nothing", "pointer", "call", "trap", "warning", "atomic", "forever" };

enum { VALUE, PREPARE, COMMIT, ABORT, RETIRE };
static const char *const places[] = { "value", "prepare", "commit", "abort", "retire" };

struct choice {
	const char *const *names;
	unsigned int count;
	int chosen;
};

static struct choice deed = { deeds, ARRAY_SIZE(deeds), NOTHING };
static struct choice where = { places, ARRAY_SIZE(places), VALUE };

static int choice_set(const char *value, const struct kernel_param *param)
{
	struct choice *choice = param->arg;
	int found = __sysfs_match_string(choice->names, choice->count, value);

	if (found < 0)
		return found;
	WRITE_ONCE(choice->chosen, found);
	return 0;
}

static int choice_get(char *buffer, const struct kernel_param *param)
{
	const struct choice *choice = param->arg;

	return sprintf(buffer, "%s\n", choice->names[choice->chosen]);
}

static const struct kernel_param_ops choice_ops = {
	.set = choice_set,
	.get = choice_get,
};
module_param_cb(deed, &choice_ops, &deed, 0644);
MODULE_PARM_DESC(deed, "nothing, pointer (reads at NULL), call (of NULL), trap, warning, atomic (sleeps there), forever");
module_param_cb(where, &choice_ops, &where, 0644);
MODULE_PARM_DESC(where, "value, prepare, commit, abort or retire");

static noinline void misbehave(int here)
{
	void (*nothing)(void) = NULL;
	int *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	OPTIMIZER_HIDE_VAR(nothing);
	if (READ_ONCE(where.chosen) != here)
		return;
	switch (READ_ONCE(deed.chosen)) {
	case POINTER:
		READ_ONCE(*nowhere);
		break;
	case CALL:
		nothing();
		break;
	case TRAP:
		__builtin_trap();
		break;
	case WARNING:
		WARN(1, "dynamos self-test: a warning that was asked for\n");
		break;
	case ATOMIC:
		preempt_disable();
		msleep(20);
		preempt_enable();
		break;
	case FOREVER:
		while (READ_ONCE(deed.chosen) == FOREVER)
			schedule_timeout_uninterruptible(HZ / 20);
		break;
	}
}

static int bad_value(int n)
{
	misbehave(VALUE);
	return dynamos_original(target_value)(n) + MORE;
}

static int bad_prepare(void)
{
	misbehave(PREPARE);
	return 0;
}

static void bad_commit(void)
{
	misbehave(COMMIT);
}

static void bad_abort(void)
{
	misbehave(ABORT);
}

static void bad_retire(void)
{
	misbehave(RETIRE);
}

DYNAMOS_REPLACE(bad, target_value, bad_value);

DYNAMOS_EDITION_TRAITS(bad,
		       .prepare = bad_prepare, .commit = bad_commit, .abort = bad_abort, .retire = bad_retire);

DYNAMOS_EDITION(selftest, bad, DYNAMOS_REPLACEMENT(bad, target_value));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition selftest/bad: misbehaves when told to");
MODULE_LICENSE("GPL");
