// SPDX-License-Identifier: GPL-2.0
/*
 * dynamos - a running kernel that changes its own functions to fit its workload
 *
 * This file only starts the parts in order and stops them in reverse. A call's path is in
 * include/dynamos/edition.h (gate and wrapper), the protocol in switch.c, the interface in sysfs.c and device.c.
 * Nothing is gated by loading this module: subsystems and editions come from modules of their own, which depend on
 * this one by their symbols, so that it can only be removed when none of them is left.
 */
#include <linux/module.h>

#include "core.h"

static int __init dynamos_init(void)
{
	int err;

	err = sysfs_start();
	if (err)
		return err;
	err = device_start();
	if (err)
		sysfs_stop();
	return err;
}

static void __exit dynamos_exit(void)
{
	device_stop();
	sysfs_stop();
}

module_init(dynamos_init);
module_exit(dynamos_exit);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("Several editions of kernel functions at once, and switching among them");
MODULE_VERSION(DYNAMOS_VERSION);
MODULE_LICENSE("GPL");
