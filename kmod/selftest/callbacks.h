/* SPDX-License-Identifier: GPL-2.0 */
/*
 * callbacks.h - callbacks of an edition that count how often they were called, and say no when told to
 *
 * For one edition's one source file: its module has the parameters below.
 *
 *	prepares commits aborts retires		(read-only) calls of each
 *	refuse_prepare				an errno, positive; 0: agree
 */
#ifndef _DYNAMOS_SELFTEST_CALLBACKS_H
#define _DYNAMOS_SELFTEST_CALLBACKS_H

#include <linux/atomic.h>
#include <linux/moduleparam.h>

/* A parameter is an int; what counts is the atomic_t around it. */
#define COUNTER(name)					\
	static atomic_t name;				\
	module_param_named(name, name.counter, int, 0444)

COUNTER(prepares);
COUNTER(commits);
COUNTER(aborts);
COUNTER(retires);

static int refuse_prepare;
module_param(refuse_prepare, int, 0644);
MODULE_PARM_DESC(refuse_prepare, "the errno that prepare() fails with, a positive number; 0: it does not");

static int count_prepare(void)
{
	atomic_inc(&prepares);
	return -READ_ONCE(refuse_prepare);
}

static void count_commit(void)
{
	atomic_inc(&commits);
}

static void count_abort(void)
{
	atomic_inc(&aborts);
}

static void count_retire(void)
{
	atomic_inc(&retires);
}

#define COUNTING_CALLBACKS \
	.prepare = count_prepare, .commit = count_commit, .abort = count_abort, .retire = count_retire

#endif /* _DYNAMOS_SELFTEST_CALLBACKS_H */
