/* SPDX-License-Identifier: GPL-2.0 */
/*
 * mutation.h - deliberate wrongs, to see whether the tests notice
 *
 * A test that has never failed proves little. Each wrong stands where the right way would be left, as
 * `if (dynamos_mutated(NAME))`; it is compiled in by `make DYNAMOS_MUTATION=NAME`, one at a time, and otherwise it is
 * nothing. `make test-mutations` builds each and runs the tests that must catch it; tests/vm/mutations.py says which,
 * and by what.
 *
 *	UNLOCKED	the registry is changed without its lock
 *	LOST_COUNT	a caller that was held is counted as held for ever
 *	LOST_MEMORY	what a subsystem's text was is forgotten, not freed
 */
#ifndef _DYNAMOS_MUTATION_H
#define _DYNAMOS_MUTATION_H

#include <linux/kconfig.h>

#define dynamos_mutated(name) __is_defined(DYNAMOS_MUTATION_##name)

#endif /* _DYNAMOS_MUTATION_H */
