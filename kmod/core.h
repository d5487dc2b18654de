/* SPDX-License-Identifier: GPL-2.0 */
/*
 * core.h - what the module's own files know of each other
 *
 *	function.c	a subsystem's functions: found, or waited for until their module is there
 *	gate.c		one function's entry: put the gate there, take it away; deny.c: where none may be
 *	registry.c	which subsystems and editions there are
 *	switch.c	the transactions: from one active edition to the next, in each mode
 *	pass.c		calls that go through the dispatch slot, and those that are held there
 *	object.c	mode per-object: which edition an object has
 *	scope.c		mode scoped: which calls are inside; tasks.c: sets of tasks
 *	stack.c		who is inside: looking at stacks
 *	drain.c		counting, and when an edition's text may go
 *	author.c	calling what an edition's author wrote
 *	tripwire.c	what an edition's fault does; quarantine.c: editions that nobody may switch to
 *	lease.c		who looks after a subsystem, and what is done when nobody does any more
 *	enable.c	the parameter that keeps everything off; fail.c: steps that are made to fail, for tests
 *	shadow.c	extra state of objects; parameter.c: parameters of editions
 *	sysfs.c, device.c, command.c, event.c, trace.c	what user space sees (docs/abi.md)
 *
 * A subsystem's data is reached from the registry; an edition module's own structures (struct dynamos_edition and
 * the like) are reached through it and live as long as their module does.
 *
 * LOCKS, in the order in which they are taken:
 *
 *	quarantining		one command at a time that quarantines or clears; quarantine.c
 *	subsystem->switching	one transaction at a time; held for as long as an exclusive switch waits, and while an
 *				author's callback runs
 *	dynamos_lock		the registry, and every change of what can be called
 *	(spinlocks)		each named at its data; none is taken inside another
 *
 * Nothing that runs on a call's path takes either mutex, and no author's code runs with dynamos_lock held.
 */
#ifndef _DYNAMOS_CORE_H
#define _DYNAMOS_CORE_H

#include <linux/hrtimer.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include <dynamos/edition.h>

#define DYNAMOS_VERSION "0.1.0"

/* Longest name of a subsystem, edition or function, without the ending NUL. */
#define DYNAMOS_NAME_MAX 63

/* Longest sentence that goes with a refusal. */
#define DYNAMOS_REASON_MAX 160

struct gate;
struct look;
struct objects;
struct places;
struct scope;
struct subsystem;

enum mode { MODE_CONCURRENT, MODE_EXCLUSIVE, MODE_PER_OBJECT, MODE_SCOPED, MODES };

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
	struct gate *gate;			/* dynamos_lock; NULL while its module is not loaded */
	const char *backend;			/* dynamos_lock; sysfs reads it without */
	unsigned long address;			/* dynamos_lock; sysfs reads it without */
	/* The wrapper of each edition; what the table has too, except where it must lead to the dispatch slot. */
	unsigned long wrappers[DYNAMOS_MAX_EDITIONS];	/* dynamos_lock; calls read it without */
};

/* Why an edition is in quarantine. */
enum why { WHY_NOT, WHY_OOPS, WHY_WARN, WHY_COMMAND };

/* The first fault in an edition. Written by who comes first, and told of by the tripwire's work. */
struct trip {
	atomic_t claimed;
	bool ready;				/* release: all of the rest is written */
	enum why why;
	pid_t pid;
	char comm[TASK_COMM_LEN];
	unsigned long at;
};

enum lease_state { LEASE_NONE, LEASE_HELD, LEASE_LOST };

/*
 * One edition. Its life, all moves made with dynamos_lock held:
 *
 *                 switch to it                    switch away
 *   registered ------------------> callable ------------------------> draining
 *    (idle) ^                         ^                                |    |
 *           |                         +--------- switch to it ---------+    |
 *           +-------- nothing in flight, and a tasks-RCU grace period -------+
 *
 * Callable is what is active or partial; what a transaction wants does not go back to idle. `held` is true from the
 * first move out of idle until it is back there: a reference to its module keeps its text.
 */
struct edition {
	struct kobject kobj;			/* editions/<edition> */
	struct kobject *parameters_dir;		/* NULL: it has none */
	struct list_head list;			/* in subsystem->editions; dynamos_lock */
	struct list_head counters;		/* of struct counter; dynamos_lock */
	struct dynamos_edition *def;
	struct subsystem *subsystem;
	bool held;				/* dynamos_lock */
	bool wanted;				/* dynamos_lock; a transaction is about to make it callable */
	u64 epoch;				/* dynamos_lock; grows whenever it becomes callable or stops being so */
	u64 left_ns;				/* dynamos_lock; when it stopped being callable */
	struct delayed_work drain;

	/* Of the work alone. */
	u64 drained;				/* the last epoch that it was said to have drained in */
	u64 flushed;				/* the epoch in which no text can be entered without being counted */
	bool complained;			/* it was said who is in the way */
	bool watched;				/* it keeps dynamos_watch_exits on */

	/* Who was last to leave it. Written while dynamos_watch_exits is on, by whoever leaves. */
	spinlock_t last_lock;			/* of the next three; taken with interrupts off */
	u64 last_ns;				/* 0: nobody yet */
	pid_t last_pid;
	char last_comm[TASK_COMM_LEN];

	enum why quarantine;			/* written with dynamos_lock, or by the tripwire; see tripwire.c */
	atomic_t died;				/* threads inside it that a fault has ended */
	struct trip trip;
};

/* Who looks after a subsystem. All of it dynamos_lock; sysfs reads state and pid without. */
struct lease {
	enum lease_state state;
	const void *holder;			/* the open file; only compared */
	pid_t pid;
	bool hold;				/* when it has expired, let things be */
	char baseline[DYNAMOS_NAME_MAX + 1];
	unsigned int grace_ms, ttl_ms;
	unsigned long due;			/* jiffies: when it is lost, or its grace is over */
	bool expired;				/* that has been said; the baseline has not been reached */
	unsigned long wait;			/* jiffies until that is tried again */
	struct delayed_work work;
};

/* Whether callers that come through the dispatch slot may go on; see pass.c. */
enum hold {
	HOLD_NONE,
	HOLD_OPEN,			/* they wait; who is inside already goes on */
	HOLD_CLOSED,			/* nobody is inside, and nobody gets in */
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
	struct mutex switching;			/* one transaction at a time, from its first look to its last word */
	atomic_t urgent;			/* switches to the original that wait for it */
	unsigned int overtaken;			/* dynamos_lock; grows when a transaction under way must give up */
	bool in_author;				/* dynamos_lock; a callback runs, with nothing half done */
	bool tripped;				/* by a fault: calls go to the original, whatever the word was to be */
	struct lease lease;

	struct edition __rcu *active;		/* written with dynamos_lock; freed after an RCU grace period */
	struct edition __rcu *partial;		/* the same; NULL unless scoped or per-object */
	enum mode mode;				/* of the last switch; dynamos_lock; sysfs reads it without */
	unsigned long indexes;			/* bit map of the edition numbers in use; dynamos_lock */
	unsigned long switches;			/* dynamos_lock; sysfs reads it without */
	bool gated;				/* dynamos_lock; gates are wanted, though a function may be missing */

	struct scope __rcu *scope;		/* written with dynamos_lock; NULL unless scoped */
	struct objects *objects;		/* allocated once, under dynamos_lock, when first needed */
	bool per_object;			/* written with dynamos_lock; calls read it without */
	struct delayed_work migration;		/* of a per-object switch */
	u64 migration_ns;			/* dynamos_lock; when it began */
	unsigned long migration_wait;		/* of the work alone, but for the start: jiffies until it looks again */

	enum hold hold;				/* see pass.c; written by the transaction and hold_timer */
	struct hrtimer hold_timer;		/* opens the gate, whatever has become of the transaction */
	wait_queue_head_t gate_queue;		/* who waits for hold or an object to change */
	atomic_t held;				/* how many those are */
	const struct task_struct *switcher;	/* who holds callers now; passes itself */
	const struct task_struct *author;	/* who runs a callback of an author now; the same */
	const struct dynamos_function *unfit;	/* set by a caller that should have waited and may not */

	struct places __rcu *places;		/* where its text is; written with dynamos_lock */
	unsigned int before_gate;		/* at the last look; dynamos_lock; sysfs reads it without */
	unsigned int unreliable;		/* the same */
	struct delayed_work looking;		/* looks again for as long as either is not zero */
	struct delayed_work rescue;		/* after a fault in an edition */
	unsigned long rescue_wait;		/* of the work alone: jiffies until it tries again */
};

/* Protects the registry and every change of what can be called. */
extern struct mutex dynamos_lock;

/* For everything that waits for grace periods. */
extern struct workqueue_struct *dynamos_queue;

/* What was refused, and must be done, is tried again for ever, ever less often. Return: in how many jiffies. */
static inline unsigned long wait_longer(unsigned long *wait)
{
	*wait = clamp_t(unsigned long, *wait * 2, HZ, 30 * HZ);
	return *wait;
}

/* Who is asking: a buffer for a refusal's sentence, and the pid for the events. */
struct request {
	pid_t by;
	const void *file;			/* the open device it came by; only compared */
	u64 start_ns;
	char reason[DYNAMOS_REASON_MAX];
};

__printf(2, 3) void request_reason(struct request *request, const char *format, ...);
const char *request_why(const struct request *request, int err);

/* registry.c */
extern struct list_head subsystems;
struct subsystem *subsystem_find(const char *name, struct request *request);
struct edition *edition_find(struct subsystem *subsystem, const char *name, struct request *request);
struct edition *edition_by_names(const char *subsystem_name, const char *name, struct request *request);
bool name_is_valid(const char *name);

static inline struct edition *active_edition(const struct subsystem *subsystem)
{
	return rcu_dereference_protected(subsystem->active, lockdep_is_held(&dynamos_lock));
}

static inline struct edition *partial_edition(const struct subsystem *subsystem)
{
	return rcu_dereference_protected(subsystem->partial, lockdep_is_held(&dynamos_lock));
}

/* function.c: callers hold dynamos_lock, except for the first two. */
int functions_start(void);
void functions_stop(void);
int functions_add(struct subsystem *subsystem, struct request *request);
void functions_remove(struct subsystem *subsystem);
int gates_install(struct subsystem *subsystem, struct request *request);
void gates_remove(struct subsystem *subsystem);
void function_route(struct function *function, u32 index, unsigned long wrapper);

/* gate.c: one function's entry. May sleep; callers hold dynamos_lock. */
struct gate *gate_create(struct dynamos_function *function, struct request *request);
void gate_destroy(struct gate *gate);
int gate_check(const char *name, const char *home, struct request *request);
int gate_install(struct gate *gate, struct request *request);
int gate_remove(struct gate *gate);
const char *gate_backend(const struct gate *gate);
unsigned long gate_site(const struct gate *gate);
unsigned long gate_cold(const struct gate *gate);

/* deny.c */
int deny_name(const char *name, const char *home, struct request *request);
int deny_text(const struct dynamos_function *function, unsigned long address, struct request *request);

/* drain.c */
unsigned long counts_entered(const struct dynamos_counts __percpu *counts);
unsigned long counts_in_flight(const struct dynamos_counts __percpu *counts);
unsigned long edition_in_flight(const struct dynamos_edition *edition);
unsigned long passes_in_flight(const struct subsystem *subsystem);
bool editions_are_quiet(const struct subsystem *subsystem);
bool edition_can_be_called(const struct edition *edition);
void edition_drain_init(struct edition *edition);
void edition_drain_start(struct edition *edition);
void edition_drain_cancel(struct edition *edition);
void wait_for_text(void);

/* author.c */
enum callback {
	CALLBACK_PREPARE,
	CALLBACK_INTO,			/* transfer of the whole subsystem */
	CALLBACK_OUT_OF,
	CALLBACK_COMMIT,
	CALLBACK_ABORT,
	CALLBACK_RETIRE,
};

int author_call(const struct edition *edition, enum callback callback);

/* tripwire.c */
int tripwire_start(void);
void tripwire_stop(void);
void trip_reset(struct edition *edition);
void rescue_init(struct subsystem *subsystem);

/* quarantine.c */
int quarantine_edition(const char *subsystem, const char *edition, struct request *request);
int clear_edition(const char *subsystem, const char *edition, struct request *request);
const char *why_name(enum why why);

/* lease.c */
struct lease_options {
	bool hold;
	const char *baseline;
	unsigned int grace_ms, ttl_ms;
};

void lease_init(struct subsystem *subsystem);
void lease_end(struct subsystem *subsystem);
void lease_cancel(struct subsystem *subsystem);
int lease_take(const char *subsystem, const struct lease_options *options, struct request *request);
int lease_release(const char *subsystem, struct request *request);
void leases_drop(const void *file);
bool lease_is_over(const struct lease *lease);
const char *lease_name(enum lease_state state);

/* enable.c */
bool is_enabled(void);

/* fail.c: how a step is written that may fail; a test can make it fail. */
bool step_fails(const char *function);

#define failable(step, failure) (step_fails(__func__) ? (failure) : (step))

/* switch.c */
struct switch_options {
	int mode;				/* of enum mode; MODES: whichever the editions allow */
	unsigned int timeout_ms;		/* exclusive */
	const char *scope;			/* scoped: as in the command; NULL: none given */
	bool keep;				/* per-object: existing objects keep their edition */
	const struct lease *lease;		/* only while that is over; NULL: whatever becomes of any */
};

int switch_edition(const char *subsystem, const char *edition, const struct switch_options *options,
		   struct request *request);
int switch_unasked(const char *subsystem, const char *edition, pid_t by, const struct lease *lease);
int name_insiders(const char *subsystem, struct request *request);
u32 edition_modes(const struct edition *edition);
const char *mode_name(enum mode mode);
void migration_init(struct subsystem *subsystem);

/* pass.c */
void pass_init(struct subsystem *subsystem);
void pass_hold(struct subsystem *subsystem, unsigned int timeout_ms);
bool pass_close(struct subsystem *subsystem);
void pass_release(struct subsystem *subsystem);
bool may_sleep_here(void);

/* object.c: the first three in the context of calls. */
u32 object_pick(struct subsystem *subsystem, struct dynamos_pass *pass);
void object_done(struct subsystem *subsystem, const struct dynamos_pass *pass);
void object_leave(struct subsystem *subsystem, struct dynamos_pass *pass);
void object_born(struct subsystem *subsystem, struct dynamos_pass *pass, void *object);
int objects_prepare(struct subsystem *subsystem);
void objects_begin(struct subsystem *subsystem, struct edition *from, struct edition *to, bool keep);
void objects_end(struct subsystem *subsystem);
void objects_keep(struct subsystem *subsystem, bool keep);
bool objects_are_settled(const struct subsystem *subsystem);
void objects_settle(struct subsystem *subsystem);
bool objects_have_transfer(const struct subsystem *subsystem);
bool objects_are_migrated(struct subsystem *subsystem);
bool objects_cannot_complete(const struct subsystem *subsystem);
unsigned int objects_passes(const struct subsystem *subsystem);
unsigned int objects_count(const struct subsystem *subsystem);
void objects_free(struct subsystem *subsystem);

/* scope.c: scope_has() in any context, with @arguments NULL where they are not to be had. */
struct scope *scope_create(const char *text, const struct edition *edition, struct request *request);
void scope_enter(struct scope *scope, struct subsystem *subsystem, u32 base, u32 chosen);
void scope_retire(struct scope *scope);
u32 scope_slot(const struct scope *scope);
const char *scope_text(const struct scope *scope);
bool scope_has(struct scope *scope, const struct dynamos_function *function, const unsigned long *arguments);

/* tasks.c: sets of tasks. tasks_has() in any context. */
struct tasks;
struct tasks *tasks_create(pid_t pid, const struct subsystem *subsystem, int *err);
void tasks_destroy(struct tasks *tasks);
bool tasks_has(const struct tasks *tasks, const struct task_struct *task);
struct task_struct **tasks_array(struct tasks *tasks);
int tasks_start(void);
void tasks_stop(void);

/*
 * stack.c: callers hold dynamos_lock, except for is_inside(), and for text_is_of(), stack_read() and stack_is_gone():
 * these are for any context, the first and the last under rcu_read_lock().
 */
#define LOOK_NAMES 16

enum how { HOW_GATED, HOW_BEFORE_GATE, HOW_UNRELIABLE };

/* One thread that is inside. */
struct insider {
	pid_t pid;
	char comm[TASK_COMM_LEN];
	enum how how;
	const struct function *function;	/* NULL when unreliable */
	const struct edition *edition;		/* the original when it came before the gate; NULL when unreliable */
	unsigned long at[6];			/* the innermost return addresses */
};

/* What a look at all stacks found. */
struct look {
	unsigned int found;			/* threads: each is in one or more of the next four */
	unsigned int gated;			/* threads in a wrapper */
	unsigned int unpassed;			/* of these, how many did not come through the dispatch slot */
	unsigned int strangers;			/* passes that the per-object switch under way has not decided about */
	unsigned int before_gate;
	unsigned int unreliable;
	unsigned int named;			/* of the array below */
	struct insider insiders[LOOK_NAMES];
};

int places_update(struct subsystem *subsystem, gfp_t gfp);
void places_free(struct subsystem *subsystem);
struct look *look_inside(struct subsystem *subsystem);
void look_report(struct subsystem *subsystem, const struct look *look);
void look_describe(const struct look *look, char *text, size_t size);
void look_remember(struct subsystem *subsystem, const struct look *look);
bool is_inside(struct subsystem *subsystem, const struct dynamos_function *function);
bool text_is_of(const struct edition *edition, unsigned long address);
unsigned int stack_read(struct pt_regs *regs, unsigned long *at, unsigned int most);
void stack_is_gone(struct subsystem *subsystem, const unsigned long *at, unsigned int count);
void looking_init(struct subsystem *subsystem);
void looking_start(struct subsystem *subsystem);

/* shadow.c */
void shadows_forget_object(struct subsystem *subsystem, void *object);
void shadows_forget_edition(struct dynamos_edition *edition);

/* parameter.c */
int parameter_set(const char *subsystem, const char *edition, char *assignment, struct request *request);
int parameters_show(struct edition *edition);
void parameters_hide(struct edition *edition);

/* event.c: may be called in any context but NMI. */
__printf(2, 3) void event_emit(const char *name, const char *format, ...);
void event_refused(const struct request *request, int err, const char *format, ...) __printf(3, 4);
const char *printable_comm(char to[TASK_COMM_LEN], const char *comm);

/* command.c */
int line_check(char *line, size_t length);
int command_run(char *line, struct request *request);

/* sysfs.c */
bool sysfs_name_is_taken(const char *edition);
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
