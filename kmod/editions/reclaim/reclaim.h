/* SPDX-License-Identifier: GPL-2.0 */
/*
 * reclaim.h - the subsystem `reclaim`: which pages go when memory is short
 *
 *	folio_referenced	how many mappings have used these pages since it was last asked; clears what says so
 *
 * The kernel asks it about pages that it has taken off their list and may free: those of the active list, before they
 * go to the inactive one, and those of the inactive one, before they are dropped or swapped out. The multi-generation
 * LRU asks it in the second place only. The answer is about what is likely, and never about what is right: a page that
 * is kept costs memory, one that is dropped is read again. So every edition is correct that does not keep all pages.
 *
 * Called by whoever needs memory, kswapd or a task in the midst of an allocation. No spinlock is held, but locks are
 * that sleepers may wait for: an edition must not allocate, and should not sleep. The object of a call would be a page;
 * nothing about it outlives the call, so the subsystem has none.
 */
#ifndef _DYNAMOS_RECLAIM_H
#define _DYNAMOS_RECLAIM_H

#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/rmap.h>

#include <dynamos/edition.h>

#define DYNAMOS_PROTOTYPE_folio_referenced						\
	DYNAMOS_RETURNS(int, (struct folio *folio, int is_locked, struct mem_cgroup *memcg, unsigned long *vm_flags), \
			(folio, is_locked, memcg, vm_flags))

DYNAMOS_DECLARE_SUBSYSTEM(reclaim);
DYNAMOS_DECLARE_FUNCTION(folio_referenced);

#endif /* _DYNAMOS_RECLAIM_H */
