/* SPDX-License-Identifier: GPL-2.0 */
/* atomic.h - the subsystem `selftest_atomic`: a function that is called in hard and in soft interrupts */
#ifndef _DYNAMOS_SELFTEST_ATOMIC_H
#define _DYNAMOS_SELFTEST_ATOMIC_H

#include <dynamos/edition.h>

#define DYNAMOS_PROTOTYPE_target_atomic DYNAMOS_RETURNS(int, (int n), (n))

DYNAMOS_DECLARE_SUBSYSTEM(selftest_atomic);
DYNAMOS_DECLARE_FUNCTION(target_atomic);

#endif /* _DYNAMOS_SELFTEST_ATOMIC_H */
