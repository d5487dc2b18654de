// SPDX-License-Identifier: GPL-2.0
/* A subsystem that asks for schedule(), which must not be gated: loading this fails with EPERM. */
#include <dynamos/edition.h>

#define DYNAMOS_PROTOTYPE_schedule DYNAMOS_RETURNS_VOID((void), ())

DYNAMOS_DECLARE_SUBSYSTEM(selftest_schedule);
DYNAMOS_DECLARE_FUNCTION(schedule);

DYNAMOS_FUNCTION(selftest_schedule, schedule);

DYNAMOS_SUBSYSTEM(selftest_schedule, &dynamos_function_schedule);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos subsystem of the self-test: one that is refused");
MODULE_LICENSE("GPL");
