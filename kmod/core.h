/* SPDX-License-Identifier: GPL-2.0 */
/*
 * core.h - what the module's own files know of each other
 *
 * A subsystem's data is reached from the registry; an edition module's own structures (struct dynamos_edition and
 * the like) are reached through it and live as long as their module does.
 */
#ifndef _DYNAMOS_CORE_H
#define _DYNAMOS_CORE_H

#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include <dynamos/edition.h>

#define DYNAMOS_VERSION "0.1.0"

/* Longest name of a subsystem, edition or function, without the ending NUL. */
#define DYNAMOS_NAME_MAX 63

/* Longest sentence that goes with a refusal. */
#define DYNAMOS_REASON_MAX 160

struct gate;
struct subsystem;

/* One function's row for one edition that replaces it: functions/<function>/<edition>/ in sysfs. */
struct counter {
	struct kobject kobj;
	struct list_head list;			/* in edition->counters; dynamos_lock */
	const struct dynamos_replacement *replacement;
};

/* One function of a subsystem. */
struct function {
	struct kobject kobj;			/* functions/<function> */
	struct list_head list;			/* in subsystem->functions; fixed once registered */
	struct subsystem *subsystem;
	struct dynamos_function *def;
	struct gate *gate;
};

/*
 * One edition. Its life, all moves made with dynamos_lock held:
 *
 *                 switch to it                    switch away
 *   registered ------------------> active --------------------------> draining
 *    (idle) ^                         ^                                |    |
 *           |                         +--------- switch to it ---------+    |
 *           +-------- nothing in flight, and a tasks-RCU grace period -------+
 *
 * `held` is true from the first move out of idle until it is back there: a reference to its module keeps its text.
 */
struct edition {
	struct kobject kobj;			/* editions/<edition> */
	struct list_head list;			/* in subsystem->editions; dynamos_lock */
	struct list_head counters;		/* of struct counter; dynamos_lock */
	struct dynamos_edition *def;
	struct subsystem *subsystem;
	bool held;				/* dynamos_lock */
	u64 epoch;				/* dynamos_lock; grows whenever it becomes active or stops being so */
	u64 left_ns;				/* dynamos_lock; when it stopped being active */
	struct delayed_work drain;
};

struct subsystem {
	struct kobject kobj;
	struct kobject *editions_dir;
	struct kobject *functions_dir;
	struct list_head list;			/* in subsystems; dynamos_lock */
	struct list_head functions;		/* of struct function; fixed once registered */
	struct list_head editions;		/* of struct edition, original first; dynamos_lock */
	struct dynamos_subsystem *def;
	struct edition *original;
	struct edition __rcu *active;		/* written with dynamos_lock; freed after an RCU grace period */
	unsigned long indexes;			/* bit map of the edition numbers in use; dynamos_lock */
	unsigned long switches;			/* dynamos_lock; sysfs reads it without */
	bool gated;				/* dynamos_lock */
};

/* Protects the registry and every switch. Taken first; nothing that runs in a gate or a wrapper takes it. */
extern struct mutex dynamos_lock;

/* Who is asking: the name of a refusal's sentence buffer, and the pid for the events. */
struct request {
	pid_t by;
	char reason[DYNAMOS_REASON_MAX];
};

__printf(2, 3) void request_reason(struct request *request, const char *format, ...);

/* registry.c */
extern struct list_head subsystems;
struct subsystem *subsystem_find(const char *name);
struct edition *edition_find(struct subsystem *subsystem, const char *name);

/* gate.c: one function's entry. May sleep; callers hold dynamos_lock. */
struct gate *gate_create(struct dynamos_function *function);
void gate_destroy(struct gate *gate);
int gate_install(struct gate *gate);
int gate_remove(struct gate *gate);
const char *gate_backend(const struct gate *gate);
unsigned long gate_address(const struct gate *gate);

/* inflight.c */
unsigned long counts_entered(const struct dynamos_counts __percpu *counts);
unsigned long counts_in_flight(const struct dynamos_counts __percpu *counts);
unsigned long edition_in_flight(const struct dynamos_edition *edition);
void edition_drain_init(struct edition *edition);
void edition_drain_start(struct edition *edition);
void edition_drain_cancel(struct edition *edition);
void wait_for_text(void);

/* switch.c */
int switch_edition(const char *subsystem, const char *edition, struct request *request);

/* event.c: may be called in any context but NMI. */
__printf(2, 3) void event_emit(const char *name, const char *format, ...);

/* sysfs.c */
int sysfs_start(void);
void sysfs_stop(void);
int sysfs_add_subsystem(struct subsystem *subsystem);
void sysfs_remove_subsystem(struct subsystem *subsystem);
int sysfs_add_function(struct function *function);
void sysfs_remove_function(struct function *function);
int sysfs_add_edition(struct edition *edition);
void sysfs_remove_edition(struct edition *edition);
void sysfs_init_subsystem(struct subsystem *subsystem);
void sysfs_init_function(struct function *function);
void sysfs_init_edition(struct edition *edition);

/* device.c */
int device_start(void);
void device_stop(void);

#endif /* _DYNAMOS_CORE_H */
