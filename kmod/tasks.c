// SPDX-License-Identifier: GPL-2.0
/*
 * tasks.c - sets of tasks: a process, its threads and its descendants
 *
 * A set is an array of pointers, open addressing with linear probing, read without a lock by every call of a gated
 * function (include/dynamos/gate.h has the first look, in assembly) and written under tasks_lock. The scheduler's
 * tracepoints tell of each task that is made and each that is freed: a child is in the set before it runs, and a
 * pointer is out of it before it can mean another task.
 */
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "core.h"

/* Stands where a task was: a look must go on past it. No task is there. */
#define GONE ((struct task_struct *)1)

/* Fuller than this, looks get long. */
#define TASKS_MOST (DYNAMOS_TASKS * 3 / 4)

struct tasks {
	struct list_head list;			/* in all_tasks; tasks_lock */
	struct task_struct **array;		/* DYNAMOS_TASKS of them; written with tasks_lock */
	unsigned int count;			/* tasks_lock */
	bool full;				/* tasks_lock; it has been said */
	char subsystem[DYNAMOS_NAME_MAX + 1];	/* its name; the set may outlive it for a moment */
};

static DEFINE_SPINLOCK(tasks_lock);		/* taken with interrupts off; nothing inside it but event_lock */
static LIST_HEAD(all_tasks);

/* ------------------------------------------------------------------------------------------------------- one set */

static unsigned int first_place(const struct task_struct *task)
{
	u32 mixed = (u32)(unsigned long)task * DYNAMOS_TASKS_MIX;

	return ((mixed >> DYNAMOS_TASKS_SHIFT) & DYNAMOS_TASKS_MASK) / sizeof(task);
}

static unsigned int next_place(unsigned int place)
{
	return (place + 1) % DYNAMOS_TASKS;
}

/* Return: the place of a task, or -1. An empty place, or having been everywhere, ends the search. */
static int find(const struct tasks *tasks, const struct task_struct *task)
{
	unsigned int place = first_place(task);
	struct task_struct *there;
	unsigned int looks;

	for (looks = 0; looks < DYNAMOS_TASKS; looks++) {
		there = READ_ONCE(tasks->array[place]);
		if (there == task)
			return place;
		if (!there)
			return -1;
		place = next_place(place);
	}
	return -1;
}

bool tasks_has(const struct tasks *tasks, const struct task_struct *task)
{
	return find(tasks, task) >= 0;
}

struct task_struct **tasks_array(struct tasks *tasks)
{
	return tasks->array;
}

/* Caller holds tasks_lock. */
static void add(struct tasks *tasks, struct task_struct *task)
{
	unsigned int place;

	if (tasks_has(tasks, task))
		return;
	if (tasks->count >= TASKS_MOST) {
		if (!tasks->full)
			event_emit("scope_full", "subsystem=%s", tasks->subsystem);
		tasks->full = true;
		return;
	}
	place = first_place(task);
	while (tasks->array[place] && tasks->array[place] != GONE)
		place = next_place(place);
	WRITE_ONCE(tasks->array[place], task);
	tasks->count++;
}

/* Caller holds tasks_lock. Marks before an empty place are needless: nobody has to go on past them. */
static void drop(struct tasks *tasks, const struct task_struct *task)
{
	int place = find(tasks, task);

	if (place < 0)
		return;
	WRITE_ONCE(tasks->array[place], GONE);
	tasks->count--;
	tasks->full = false;
	if (tasks->array[next_place(place)])
		return;
	while (tasks->array[place] == GONE) {
		WRITE_ONCE(tasks->array[place], NULL);
		place = (place + DYNAMOS_TASKS - 1) % DYNAMOS_TASKS;
	}
}

/* ------------------------------------------------------------------------------------------------ the tracepoints */

/* In the parent, for each way to make a task: processes and threads, and the kernel's own for io_uring and vhost. */
static void task_is_made(void *data, struct task_struct *child, unsigned long clone_flags)
{
	struct tasks *tasks;
	unsigned long flags;

	spin_lock_irqsave(&tasks_lock, flags);
	list_for_each_entry(tasks, &all_tasks, list)
		if (tasks_has(tasks, current))
			add(tasks, child);
	spin_unlock_irqrestore(&tasks_lock, flags);
}

static void task_is_freed(void *data, struct task_struct *task)
{
	struct tasks *tasks;
	unsigned long flags;

	spin_lock_irqsave(&tasks_lock, flags);
	list_for_each_entry(tasks, &all_tasks, list)
		drop(tasks, task);
	spin_unlock_irqrestore(&tasks_lock, flags);
}

static struct {
	const char *name;
	void *probe;
	struct tracepoint *point;		/* NULL: not in this kernel */
} probes[] = {
	{ "task_newtask", task_is_made },
	{ "sched_process_free", task_is_freed },
};

/* Attached while there is any set; callers hold dynamos_lock. */
static unsigned int sets;

static void find_point(struct tracepoint *point, void *data)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		if (!strcmp(point->name, probes[i].name))
			probes[i].point = point;
}

static void probes_detach(int count)
{
	while (count--)
		tracepoint_probe_unregister(probes[count].point, probes[count].probe, NULL);
	tracepoint_synchronize_unregister();
}

static int probe_attach(int i)
{
	return failable(tracepoint_probe_register(probes[i].point, probes[i].probe, NULL), -ENOMEM);
}

static int probes_attach(void)
{
	int err;
	int i;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		err = probes[i].point ? probe_attach(i) : -ENOENT;
		if (err) {
			probes_detach(i);
			return err;
		}
	}
	return 0;
}

/* ------------------------------------------------------------------------------------------------ making one */

static bool descends_from(const struct task_struct *task, const struct task_struct *leader)
{
	const struct task_struct *at;

	/* Whoever is nobody's child, and init, is its own end. */
	for (at = task->group_leader; at->pid; at = rcu_dereference(at->real_parent)->group_leader)
		if (at == leader)
			return true;
	return false;
}

/*
 * Forks are followed already: a child that is made while this goes on is found here, at the end of the kernel's list,
 * or its parent was in the set when it was made.
 */
static int add_family(struct tasks *tasks, pid_t pid)
{
	struct task_struct *leader, *process, *task;
	unsigned long flags;
	int err = -ESRCH;

	rcu_read_lock();
	leader = pid_task(find_vpid(pid), PIDTYPE_PID);
	if (leader) {
		leader = leader->group_leader;
		err = 0;
		for_each_process_thread(process, task) {
			if (!descends_from(task, leader))
				continue;
			spin_lock_irqsave(&tasks_lock, flags);
			/* One that is being freed has had its last word, or will have it after this. */
			if (pid_alive(task))
				add(tasks, task);
			spin_unlock_irqrestore(&tasks_lock, flags);
		}
	}
	rcu_read_unlock();
	return err;
}

/**
 * tasks_create() - the set of a process, its threads and its descendants, from now on
 * @pid: of any of its threads, as the caller's pid namespace has it
 * @subsystem: for which it is
 * @err: gets -ESRCH (no such process), -ENOMEM, or why the scheduler's tracepoints cannot be used
 */
struct tasks *tasks_create(pid_t pid, const struct subsystem *subsystem, int *err)
{
	struct tasks *tasks;
	unsigned long flags;

	lockdep_assert_held(&dynamos_lock);
	*err = -ENOMEM;
	tasks = failable(kzalloc(sizeof(*tasks), GFP_KERNEL), NULL);
	if (!tasks)
		return NULL;
	INIT_LIST_HEAD(&tasks->list);
	strscpy(tasks->subsystem, subsystem->def->name, sizeof(tasks->subsystem));
	tasks->array = failable(kvcalloc(DYNAMOS_TASKS, sizeof(*tasks->array), GFP_KERNEL), NULL);
	if (!tasks->array)
		goto fail;
	*err = sets ? 0 : probes_attach();
	if (*err)
		goto fail;
	sets++;

	spin_lock_irqsave(&tasks_lock, flags);
	list_add(&tasks->list, &all_tasks);
	spin_unlock_irqrestore(&tasks_lock, flags);
	*err = add_family(tasks, pid);
	if (!*err)
		return tasks;
	tasks_destroy(tasks);
	return NULL;

fail:
	kvfree(tasks->array);
	kfree(tasks);
	return NULL;
}

/* Nobody looks into it any more. */
void tasks_destroy(struct tasks *tasks)
{
	unsigned long flags;

	lockdep_assert_held(&dynamos_lock);
	spin_lock_irqsave(&tasks_lock, flags);
	list_del(&tasks->list);
	spin_unlock_irqrestore(&tasks_lock, flags);
	if (!--sets)
		probes_detach(ARRAY_SIZE(probes));
	kvfree(tasks->array);
	kfree(tasks);
}

/* The tracepoints are not exported by name; a kernel without them has no task scopes, and all the rest. */
int tasks_start(void)
{
	for_each_kernel_tracepoint(find_point, NULL);
	return 0;
}

/* Each set went with its scope. */
void tasks_stop(void)
{
	WARN_ON(sets);
}
