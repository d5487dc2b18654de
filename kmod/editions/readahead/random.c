// SPDX-License-Identifier: GPL-2.0
/*
 * readahead/random - read what is asked for and nothing else
 *
 * For programs that jump about in files larger than memory: databases on mapped files, search indexes. Sequential
 * readers suffer under it; a policy has to see them come.
 */
#include <linux/minmax.h>

#include "readahead.h"

/*
 * No window is read; a page fault then reads its one page. The kernel counts the faults of a file that missed the
 * cache and stops asking for a read-around when there are too many (MMAP_LOTSAMISS). Here every fault misses, so that
 * count is kept at nothing: the calls go on, which is how a policy sees whether the workload is still a random one, and
 * whoever reads this file in sequence after the switch back finds readahead working.
 */
static void no_window(struct readahead_control *ractl, struct file_ra_state *ra, unsigned int new_order)
{
	WRITE_ONCE(ra->mmap_miss, 0);
}

DYNAMOS_REPLACE(random, page_cache_ra_order, no_window);

/* Just the pages of this read(), a readahead window of them at a time at the most; none beyond the file's end. */
static void wanted_only(struct readahead_control *ractl, unsigned long req_count)
{
	loff_t size = i_size_read(ractl->mapping->host);
	pgoff_t first = readahead_index(ractl);
	unsigned long most = max(1U, ractl->ra->ra_pages);
	pgoff_t last;

	if (!size)
		return;
	last = (size - 1) >> PAGE_SHIFT;
	if (first > last)
		return;
	page_cache_ra_unbounded(ractl, min3(req_count, most, last - first + 1), 0);
}

DYNAMOS_REPLACE(random, page_cache_sync_ra, wanted_only);

/* The mark was set by another edition before the switch. Clear it, or each reader of this page comes here again. */
static void no_next_window(struct readahead_control *ractl, struct folio *folio, unsigned long req_count)
{
	/* While the folio is written back, the same bit means something else. */
	if (!folio_test_writeback(folio))
		folio_clear_readahead(folio);
}

DYNAMOS_REPLACE(random, page_cache_async_ra, no_next_window);

DYNAMOS_EDITION(readahead, random,
		DYNAMOS_REPLACEMENT(random, page_cache_ra_order),
		DYNAMOS_REPLACEMENT(random, page_cache_sync_ra),
		DYNAMOS_REPLACEMENT(random, page_cache_async_ra));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition readahead/random: read what is asked for and nothing else");
MODULE_LICENSE("GPL");
