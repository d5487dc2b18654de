// SPDX-License-Identifier: GPL-2.0
/*
 * reclaim/foreground - one cgroup keeps its pages; others pay for the pressure
 *
 * For a machine that has one job that matters and others that take what is left: what the first one has mapped stays in
 * memory, used or not, while a backup or a batch job reads files that are larger than memory. So it is there at once
 * when the first one's turn comes, as its memory was put back before a gang-scheduled job ran in the paper that this is
 * after. It is less than memory.min, which needs a figure, and holds at all times: here a policy says when.
 *
 * The cgroup is `foreground`, with all below it. Its pages are told to be in use whenever it is asked. Not when memory
 * is short because of the cgroup's own limit; and not while there is hardly a page of others among those asked about:
 * then there is nobody else to pay, and the original's answer stands.
 *
 * Only what is mapped is kept. The page cache that is read with read() goes as ever, whosever it is.
 */
#include <linux/atomic.h>
#include <linux/cgroup.h>
#include <linux/minmax.h>
#include <linux/moduleparam.h>
#include <linux/rcupdate.h>
#include <linux/string.h>

#include <dynamos/named_cgroup.h>

#include "reclaim.h"

/* So many answers are looked at together, and with fewer than so many about others there is nobody else to pay. */
#define LOOK 1024
#define OTHERS_LEAST 64

static struct named_cgroup __rcu *foreground;

static atomic_t kept;
module_param_named(kept, kept.counter, int, 0444);
MODULE_PARM_DESC(kept, "how often a page was kept that the kernel was about to give up");

/* Counted by whoever comes, without a lock: a look that ends twice, or a little late, changes nothing that matters. */
static atomic_t asked, others;
static bool nobody_else;

/* ---------------------------------------------------------------------------------------------- the cgroup's name */

static int foreground_set(const char *value, const struct kernel_param *param)
{
	int err;

	if (strcspn(value, "\n") && !cgroup_subsys_on_dfl(memory_cgrp_subsys))
		return -EOPNOTSUPP;
	err = named_cgroup_set(value, param);
	/* That was about another one's pages. */
	if (!err)
		WRITE_ONCE(nobody_else, false);
	return err;
}

static const struct kernel_param_ops foreground_ops = {
	.set = foreground_set,
	.get = named_cgroup_get,
	.free = named_cgroup_free,
};
module_param_cb(foreground, &foreground_ops, &foreground, 0644);
MODULE_PARM_DESC(foreground, "the cgroup whose pages are kept, with all below it: its path, from / of cgroup v2; none: no one's");

/* ------------------------------------------------------------------------------------------------------- the answer */

static void note(bool is_other)
{
	if (is_other)
		atomic_inc(&others);
	if (atomic_inc_return(&asked) % LOOK)
		return;
	WRITE_ONCE(nobody_else, atomic_xchg(&others, 0) < OTHERS_LEAST);
}

static bool is_of(struct mem_cgroup *memcg, struct cgroup *cgroup)
{
	return memcg && cgroup_is_descendant(memcg->css.cgroup, cgroup);
}

/* Of @folio, which @for_whom has to give up. Its cgroup stays: the caller has taken it off its list. */
static bool is_to_stay(struct folio *folio, struct mem_cgroup *for_whom)
{
	const struct named_cgroup *whom;
	bool is_ours = false;

	rcu_read_lock();
	whom = rcu_dereference(foreground);
	if (whom && !is_of(for_whom, whom->cgroup)) {
		is_ours = folio_mapped(folio) && is_of(folio_memcg(folio), whom->cgroup);
		note(!is_ours);
	}
	rcu_read_unlock();
	return is_ours && !READ_ONCE(nobody_else);
}

static int in_use(struct folio *folio, int is_locked, struct mem_cgroup *memcg, unsigned long *vm_flags)
{
	int uses = dynamos_original(folio_referenced)(folio, is_locked, memcg, vm_flags);

	/* Negative: it could not look without waiting. The page stays for now as it is. */
	if (uses < 0 || !is_to_stay(folio, memcg))
		return uses;
	atomic_inc(&kept);
	/* Two uses make an inactive page active. Programs' text has this flag: it has a file's active page stay so. */
	*vm_flags |= VM_EXEC;
	return max(uses, 2);
}

DYNAMOS_REPLACE(foreground, folio_referenced, in_use);

DYNAMOS_EDITION(reclaim, foreground,
		DYNAMOS_REPLACEMENT(foreground, folio_referenced));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition reclaim/foreground: one cgroup keeps its pages under memory pressure");
MODULE_LICENSE("GPL");
