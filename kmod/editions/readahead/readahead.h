/* SPDX-License-Identifier: GPL-2.0 */
/*
 * readahead.h - the subsystem `readahead`: how much the page cache reads that nobody has asked for yet
 *
 *	page_cache_ra_order	starts the reading of a window, which its caller has chosen: ra->start, ra->size. Called
 *				by the two below, and for each page fault on a mapped file that misses the cache (the
 *				"read-around": 32 pages around the one that is wanted, by default)
 *	page_cache_sync_ra	read() missed the cache: req_count pages are wanted now
 *	page_cache_async_ra	a reader has come to the page that the last window marked: time for the next
 *
 * None of them has to do anything: who needs a page that is not there reads it himself. So every edition is correct,
 * and which one is fast depends on the workload alone. All are called where sleeping is allowed.
 */
#ifndef _DYNAMOS_READAHEAD_H
#define _DYNAMOS_READAHEAD_H

#include <linux/fs.h>
#include <linux/pagemap.h>

#include <dynamos/edition.h>

#define DYNAMOS_PROTOTYPE_page_cache_ra_order						\
	DYNAMOS_RETURNS_VOID((struct readahead_control *ractl, struct file_ra_state *ra, unsigned int new_order), \
			     (ractl, ra, new_order))
#define DYNAMOS_PROTOTYPE_page_cache_sync_ra						\
	DYNAMOS_RETURNS_VOID((struct readahead_control *ractl, unsigned long req_count), (ractl, req_count))
#define DYNAMOS_PROTOTYPE_page_cache_async_ra						\
	DYNAMOS_RETURNS_VOID((struct readahead_control *ractl, struct folio *folio, unsigned long req_count), \
			     (ractl, folio, req_count))

DYNAMOS_DECLARE_SUBSYSTEM(readahead);
DYNAMOS_DECLARE_FUNCTION(page_cache_ra_order);
DYNAMOS_DECLARE_FUNCTION(page_cache_sync_ra);
DYNAMOS_DECLARE_FUNCTION(page_cache_async_ra);

#endif /* _DYNAMOS_READAHEAD_H */
