/* SPDX-License-Identifier: GPL-2.0 */
/*
 * selftest.h - the subsystem `selftest`: functions of dynamos_target.ko of every shape that a gate has to let through
 *
 * All are called where sleeping is allowed.
 */
#ifndef _DYNAMOS_SELFTEST_H
#define _DYNAMOS_SELFTEST_H

#include <dynamos/edition.h>

#include "target.h"

#define DYNAMOS_PROTOTYPE_target_value DYNAMOS_RETURNS(int, (int n), (n))
#define DYNAMOS_PROTOTYPE_target_many								\
	DYNAMOS_RETURNS(long, (long a, long b, long c, long d, long e, long f, long g, long h, long i), \
			(a, b, c, d, e, f, g, h, i))
#define DYNAMOS_PROTOTYPE_target_struct DYNAMOS_RETURNS_STRUCT(struct target_quad, (long a, long b), (a, b))
#define DYNAMOS_PROTOTYPE_target_pair DYNAMOS_RETURNS_STRUCT(struct target_pair, (long a, long b), (a, b))
#define DYNAMOS_PROTOTYPE_target_void DYNAMOS_RETURNS_VOID((long *counter), (counter))
#define DYNAMOS_PROTOTYPE_target_recurse DYNAMOS_RETURNS(int, (int depth), (depth))
#define DYNAMOS_PROTOTYPE_target_outer DYNAMOS_RETURNS(int, (int n), (n))
#define DYNAMOS_PROTOTYPE_target_inner DYNAMOS_RETURNS(int, (int n), (n))
#define DYNAMOS_PROTOTYPE_target_tail DYNAMOS_RETURNS(int, (int n), (n))
#define DYNAMOS_PROTOTYPE_target_block \
	DYNAMOS_RETURNS(int, (struct target_object *o, unsigned int seen), (o, seen))
#define DYNAMOS_PROTOTYPE_target_new DYNAMOS_RETURNS(struct target_object *, (long key), (key))
#define DYNAMOS_PROTOTYPE_target_free DYNAMOS_RETURNS_VOID((struct target_object *o), (o))
#define DYNAMOS_PROTOTYPE_target_use DYNAMOS_RETURNS(long, (struct target_object *o), (o))

DYNAMOS_DECLARE_SUBSYSTEM(selftest);
DYNAMOS_DECLARE_FUNCTION(target_value);
DYNAMOS_DECLARE_FUNCTION(target_many);
DYNAMOS_DECLARE_FUNCTION(target_struct);
DYNAMOS_DECLARE_FUNCTION(target_pair);
DYNAMOS_DECLARE_FUNCTION(target_void);
DYNAMOS_DECLARE_FUNCTION(target_recurse);
DYNAMOS_DECLARE_FUNCTION(target_outer);
DYNAMOS_DECLARE_FUNCTION(target_inner);
DYNAMOS_DECLARE_FUNCTION(target_tail);
DYNAMOS_DECLARE_FUNCTION(target_block);
DYNAMOS_DECLARE_FUNCTION(target_new);
DYNAMOS_DECLARE_FUNCTION(target_free);
DYNAMOS_DECLARE_FUNCTION(target_use);

#endif /* _DYNAMOS_SELFTEST_H */
