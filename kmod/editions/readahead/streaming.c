// SPDX-License-Identifier: GPL-2.0
/*
 * readahead/streaming - a larger window for those who read on and on
 *
 * The original lets a sequential reader's window grow up to the device's read_ahead_kb (128 KiB by default). Here a
 * window that has come to that size is multiplied, so that fewer and larger requests go to the disk. A window that is
 * still growing, and a read-around, are left as they are: they are not the mark of a sequential reader.
 *
 * The window belongs to the open file. Kernels that never shrink a window keep the large one after a switch away, until
 * the file is read elsewhere or opened anew.
 */
#include <linux/minmax.h>
#include <linux/moduleparam.h>
#include <linux/sizes.h>

#include "readahead.h"

#define WINDOW_MAX_PAGES (SZ_2M >> PAGE_SHIFT)

static unsigned int factor = 4;
module_param(factor, uint, 0644);
MODULE_PARM_DESC(factor, "how many times the device's readahead window a sequential reader gets, up to 2 MiB");

/* A sequential reader's window is marked at its start (async_size is all of it), a read-around at its last quarter. */
static bool is_full_grown(const struct file_ra_state *ra)
{
	return ra->ra_pages && ra->size >= ra->ra_pages && ra->async_size == ra->size;
}

/*
 * ra belongs to the open file, without a lock: threads that share it may overwrite each other's window, here as in the
 * original. That costs a page read twice or not ahead, and cannot grow beyond WINDOW_MAX_PAGES.
 */
static void larger_window(struct readahead_control *ractl, struct file_ra_state *ra, unsigned int new_order)
{
	unsigned long size = ra->ra_pages;

	if (is_full_grown(ra)) {
		size = min_t(unsigned long, size * READ_ONCE(factor), WINDOW_MAX_PAGES);
		if (size > ra->size) {
			ra->size = size;
			ra->async_size = size;
		}
	}
	dynamos_original(page_cache_ra_order)(ractl, ra, new_order);
}

DYNAMOS_REPLACE(streaming, page_cache_ra_order, larger_window);

DYNAMOS_EDITION(readahead, streaming,
		DYNAMOS_REPLACEMENT(streaming, page_cache_ra_order));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition readahead/streaming: a larger window for sequential readers");
MODULE_LICENSE("GPL");
