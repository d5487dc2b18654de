// SPDX-License-Identifier: GPL-2.0
/* An edition that has the name of a file beside its folder in sysfs: loading this fails with EINVAL. */
#include "selftest.h"

static int address_value(int n)
{
	return dynamos_original(target_value)(n);
}

DYNAMOS_REPLACE(address, target_value, address_value);

DYNAMOS_EDITION(selftest, address, DYNAMOS_REPLACEMENT(address, target_value));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition of the self-test: one that is refused");
MODULE_LICENSE("GPL");
