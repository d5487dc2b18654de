// SPDX-License-Identifier: GPL-2.0
/* The subsystem `kswapd`: whoever is in it was there before its gate. */
#include "kswapd.h"

DYNAMOS_FUNCTION(kswapd, kswapd);

DYNAMOS_SUBSYSTEM_TRAITS(kswapd, .may_sleep = true);

DYNAMOS_SUBSYSTEM(kswapd, &dynamos_function_kswapd);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos subsystem of the self-test: a function that is never left");
MODULE_LICENSE("GPL");
