// SPDX-License-Identifier: GPL-2.0
/* selftest_flip/b - each of the twenty functions returns this edition's number */
#include "flip.h"

static int edition_number(void)
{
	return 1;
}

#define FLIP_REPLACE(number) DYNAMOS_REPLACE(b, target_flip_##number, edition_number)
TARGET_FLIPS(FLIP_REPLACE, ;);

#define FLIP_REPLACEMENT(number) DYNAMOS_REPLACEMENT(b, target_flip_##number)

DYNAMOS_EDITION(selftest_flip, b, TARGET_FLIPS(FLIP_REPLACEMENT, TARGET_COMMA));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition selftest_flip/b: functions that return the edition's number");
MODULE_LICENSE("GPL");
