// SPDX-License-Identifier: GPL-2.0
/* The subsystem `selftest`: gates and originals. What is in it is in selftest.h. */
#include "selftest.h"

#define HOME .home = "dynamos_target"

DYNAMOS_FUNCTION_TRAITS(target_value, HOME);
DYNAMOS_FUNCTION_TRAITS(target_many, HOME);
DYNAMOS_FUNCTION_TRAITS(target_struct, HOME);
DYNAMOS_FUNCTION_TRAITS(target_pair, HOME);
DYNAMOS_FUNCTION_TRAITS(target_void, HOME);
DYNAMOS_FUNCTION_TRAITS(target_recurse, HOME);
DYNAMOS_FUNCTION_TRAITS(target_outer, HOME);
DYNAMOS_FUNCTION_TRAITS(target_inner, HOME);
DYNAMOS_FUNCTION_TRAITS(target_tail, HOME);
DYNAMOS_FUNCTION_TRAITS(target_block, HOME);
DYNAMOS_FUNCTION_TRAITS(target_new, HOME, .role = DYNAMOS_BIRTH);
DYNAMOS_FUNCTION_TRAITS(target_free, HOME, .role = DYNAMOS_DEATH);
DYNAMOS_FUNCTION_TRAITS(target_use, HOME);

DYNAMOS_OBJECT(target_block, o);
DYNAMOS_OBJECT(target_free, o);
DYNAMOS_OBJECT(target_use, o);

DYNAMOS_FUNCTION(selftest, target_value);
DYNAMOS_FUNCTION(selftest, target_many);
DYNAMOS_FUNCTION(selftest, target_struct);
DYNAMOS_FUNCTION(selftest, target_pair);
DYNAMOS_FUNCTION(selftest, target_void);
DYNAMOS_FUNCTION(selftest, target_recurse);
DYNAMOS_FUNCTION(selftest, target_outer);
DYNAMOS_FUNCTION(selftest, target_inner);
DYNAMOS_FUNCTION(selftest, target_tail);
DYNAMOS_FUNCTION(selftest, target_block);
DYNAMOS_FUNCTION(selftest, target_new);
DYNAMOS_FUNCTION(selftest, target_free);
DYNAMOS_FUNCTION(selftest, target_use);

DYNAMOS_SUBSYSTEM_TRAITS(selftest, .may_sleep = true);

DYNAMOS_SUBSYSTEM(selftest,
		  &dynamos_function_target_value,
		  &dynamos_function_target_many,
		  &dynamos_function_target_struct,
		  &dynamos_function_target_pair,
		  &dynamos_function_target_void,
		  &dynamos_function_target_recurse,
		  &dynamos_function_target_outer,
		  &dynamos_function_target_inner,
		  &dynamos_function_target_tail,
		  &dynamos_function_target_block,
		  &dynamos_function_target_new,
		  &dynamos_function_target_free,
		  &dynamos_function_target_use);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos subsystem of the self-test: functions of every shape");
MODULE_LICENSE("GPL");
