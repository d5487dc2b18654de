// SPDX-License-Identifier: GPL-2.0
/* The subsystem `selftest_atomic`: nobody may be held at its gate, so it says nothing of sleeping. */
#include "atomic.h"

DYNAMOS_FUNCTION_TRAITS(target_atomic, .home = "dynamos_target");
DYNAMOS_FUNCTION(selftest_atomic, target_atomic);

DYNAMOS_SUBSYSTEM(selftest_atomic, &dynamos_function_target_atomic);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos subsystem of the self-test: a function called in interrupts");
MODULE_LICENSE("GPL");
