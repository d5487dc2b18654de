// SPDX-License-Identifier: GPL-2.0
/* kswapd/b - the kernel's own code, by another name */
#include "kswapd.h"

static int b_kswapd(void *data)
{
	return dynamos_original(kswapd)(data);
}

DYNAMOS_REPLACE(b, kswapd, b_kswapd);

DYNAMOS_EDITION(kswapd, b, DYNAMOS_REPLACEMENT(b, kswapd));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition kswapd/b: the kernel's own code");
MODULE_LICENSE("GPL");
