/* SPDX-License-Identifier: GPL-2.0 */
/* kswapd.h - the subsystem `kswapd`: a kernel thread's main function, entered once at boot and never left */
#ifndef _DYNAMOS_SELFTEST_KSWAPD_H
#define _DYNAMOS_SELFTEST_KSWAPD_H

#include <dynamos/edition.h>

#define DYNAMOS_PROTOTYPE_kswapd DYNAMOS_RETURNS(int, (void *data), (data))

DYNAMOS_DECLARE_SUBSYSTEM(kswapd);
DYNAMOS_DECLARE_FUNCTION(kswapd);

#endif /* _DYNAMOS_SELFTEST_KSWAPD_H */
