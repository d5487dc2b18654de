// SPDX-License-Identifier: GPL-2.0
/*
 * spinning/no_spin - who wants a mutex that is taken sleeps at once
 *
 * For machines with more to do than CPUs to do it: a virtual machine whose CPUs take turns on fewer real ones, or one
 * with more threads than CPUs. There an owner that seems to run may not, and who spins for it takes the time that the
 * owner needs. Where CPUs are free, a sleep and a wakeup cost more than the spinning that they save.
 *
 * Whatever callers look at before they sleep, they do: false is what the original says, too, once spinning does not pay
 * (spinning.h). Who queues up to spin, behind another one, still gets here, but when that one has left: at once.
 */
#include "spinning.h"

static bool no_spin(struct mutex *lock, struct task_struct *owner, struct ww_acquire_ctx *ww_ctx,
		    struct mutex_waiter *waiter)
{
	return false;
}

DYNAMOS_REPLACE(no_spin, mutex_spin_on_owner, no_spin);

DYNAMOS_EDITION(spinning, no_spin,
		DYNAMOS_REPLACEMENT(no_spin, mutex_spin_on_owner));

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("dynamos edition spinning/no_spin: who wants a mutex that is taken sleeps at once");
MODULE_LICENSE("GPL");
