// SPDX-License-Identifier: GPL-2.0
/* The subsystem `spinning`: its one gate and its original. What it is for is in spinning.h. */
#include "spinning.h"

DYNAMOS_FUNCTION(spinning, mutex_spin_on_owner);

DYNAMOS_SUBSYSTEM(spinning, &dynamos_function_mutex_spin_on_owner);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos subsystem: how long who wants a mutex spins before it sleeps");
MODULE_LICENSE("GPL");
