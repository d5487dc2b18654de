// SPDX-License-Identifier: GPL-2.0
/* The subsystem `selftest_flip`: gates and originals of twenty functions. */
#include "flip.h"

#define FLIP_TRAITS(number) DYNAMOS_FUNCTION_TRAITS(target_flip_##number, .home = "dynamos_target")
TARGET_FLIPS(FLIP_TRAITS, ;);

#define FLIP_FUNCTION(number) DYNAMOS_FUNCTION(selftest_flip, target_flip_##number)
TARGET_FLIPS(FLIP_FUNCTION, ;);

DYNAMOS_SUBSYSTEM_TRAITS(selftest_flip, .may_sleep = true);

#define FLIP_ADDRESS(number) &dynamos_function_target_flip_##number

DYNAMOS_SUBSYSTEM(selftest_flip, TARGET_FLIPS(FLIP_ADDRESS, TARGET_COMMA));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos subsystem of the self-test: twenty functions that switch together");
MODULE_LICENSE("GPL");
