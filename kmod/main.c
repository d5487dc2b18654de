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
#include <linux/workqueue.h>

#include "core.h"

struct workqueue_struct *dynamos_queue;

static int queue_start(void)
{
	dynamos_queue = failable(alloc_workqueue("dynamos", WQ_UNBOUND, 0), NULL);
	return dynamos_queue ? 0 : -ENOMEM;
}

/* Waits for what is still in it. */
static void queue_stop(void)
{
	destroy_workqueue(dynamos_queue);
}

static const struct {
	int (*start)(void);
	void (*stop)(void);
} parts[] = {
	{ queue_start, queue_stop },
	{ tasks_start, tasks_stop },
	{ tripwire_start, tripwire_stop },
	{ functions_start, functions_stop },
	{ sysfs_start, sysfs_stop },
	{ device_start, device_stop },
};

static void stop(int count)
{
	while (count--)
		parts[count].stop();
}

static int __init dynamos_init(void)
{
	int err;
	int i;

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		err = parts[i].start();
		if (err) {
			stop(i);
			return err;
		}
	}
	return 0;
}

static void __exit dynamos_exit(void)
{
	stop(ARRAY_SIZE(parts));
}

module_init(dynamos_init);
module_exit(dynamos_exit);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("Several editions of kernel functions at once, and switching among them");
MODULE_VERSION(DYNAMOS_VERSION);
MODULE_LICENSE("GPL");
