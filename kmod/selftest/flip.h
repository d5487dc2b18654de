/* SPDX-License-Identifier: GPL-2.0 */
/*
 * flip.h - the subsystem `selftest_flip`: twenty functions that switch together
 *
 * They are called all the time by who checks that nobody sees a mixture, and sleep nowhere.
 */
#ifndef _DYNAMOS_SELFTEST_FLIP_H
#define _DYNAMOS_SELFTEST_FLIP_H

#include <dynamos/edition.h>

#include "target.h"

#define FLIP_PROTOTYPE DYNAMOS_RETURNS(int, (void), ())
#define DYNAMOS_PROTOTYPE_target_flip_00 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_01 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_02 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_03 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_04 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_05 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_06 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_07 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_08 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_09 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_10 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_11 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_12 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_13 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_14 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_15 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_16 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_17 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_18 FLIP_PROTOTYPE
#define DYNAMOS_PROTOTYPE_target_flip_19 FLIP_PROTOTYPE

DYNAMOS_DECLARE_SUBSYSTEM(selftest_flip);

#define FLIP_DECLARE(number) DYNAMOS_DECLARE_FUNCTION(target_flip_##number)
TARGET_FLIPS(FLIP_DECLARE, ;);
#undef FLIP_DECLARE

#endif /* _DYNAMOS_SELFTEST_FLIP_H */
