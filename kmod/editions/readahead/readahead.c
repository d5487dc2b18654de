// SPDX-License-Identifier: GPL-2.0
/* The subsystem `readahead`: its three gates and their originals. What they are for is in readahead.h. */
#include "readahead.h"

DYNAMOS_FUNCTION(readahead, page_cache_ra_order);
DYNAMOS_FUNCTION(readahead, page_cache_sync_ra);
DYNAMOS_FUNCTION(readahead, page_cache_async_ra);

DYNAMOS_SUBSYSTEM_TRAITS(readahead, .may_sleep = true);
DYNAMOS_SUBSYSTEM(readahead,
		  &dynamos_function_page_cache_ra_order,
		  &dynamos_function_page_cache_sync_ra,
		  &dynamos_function_page_cache_async_ra);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos subsystem: page cache readahead");
MODULE_LICENSE("GPL");
