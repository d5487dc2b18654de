// SPDX-License-Identifier: GPL-2.0
/*
 * scope.c - mode scoped: which calls get the partial edition
 *
 * A scope is a handler and what it needs to know. The built-in ones are handlers like those that an edition brings,
 * with one difference: where the decision is small enough, by CPU and by task, a few instructions at the gate make it
 * (include/dynamos/gate.h) and the handler is asked only when they cannot tell. Without a scope there is no handler,
 * and the gate is the plain one.
 *
 * Whatever is made here is reached by calls until a tasks-RCU grace period after the gates were sent elsewhere:
 * scope_retire() waits for that, in its own time.
 */
#include <linux/cgroup.h>
#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "core.h"

#define SCOPE_TEXT_MAX 127
#define SHARE_MOST 1000000

struct scope {
	const struct kind *kind;
	struct work_struct retire;
	char text[SCOPE_TEXT_MAX + 1];
	bool (*handler)(const struct dynamos_choice *choice);	/* handler */
	struct cgroup *cgroup;					/* cgroup */
	struct tasks *tasks;					/* task */
	u32 share;						/* share: one in so many */
	u32 __percpu *turns;					/* share: calls since the last one that got it */
	struct cpumask cpus;					/* cpus */
};

/* One way to say which calls are inside. */
struct kind {
	const char *name;
	bool has_value;
	u32 slot;
	int (*parse)(struct scope *scope, const char *value, const struct edition *edition, struct request *request);
	bool (*has)(struct scope *scope, const struct dynamos_choice *choice);
	void (*release)(struct scope *scope);			/* may be NULL */
};

/* --------------------------------------------------------------------------------------------------------- cpus */

static int cpus_parse(struct scope *scope, const char *value, const struct edition *edition,
		      struct request *request)
{
	int err = cpulist_parse(value, &scope->cpus);

	if (err == -ERANGE || (!err && !cpumask_subset(&scope->cpus, cpu_possible_mask))) {
		request_reason(request, "this machine has no such CPUs as %.64s", value);
		return -ESRCH;
	}
	if (!err && !cpumask_empty(&scope->cpus))
		return 0;
	request_reason(request, "%.64s is not a list of CPUs like 0,2-3", value);
	return -EINVAL;
}

static bool cpus_have(struct scope *scope, const struct dynamos_choice *choice)
{
	return cpumask_test_cpu(raw_smp_processor_id(), &scope->cpus);
}

/* --------------------------------------------------------------------------------------------------------- task */

static int task_parse(struct scope *scope, const char *value, const struct edition *edition,
		      struct request *request)
{
	pid_t pid;
	int err;

	if (kstrtoint(value, 10, &pid) || pid <= 0) {
		request_reason(request, "%.64s is not a pid", value);
		return -EINVAL;
	}
	scope->tasks = tasks_create(pid, edition->subsystem, &err);
	if (err == -ESRCH)
		request_reason(request, "there is no process %d", pid);
	else if (err)
		request_reason(request, "tasks cannot be followed in this kernel (%d)", err);
	return err;
}

static bool task_has(struct scope *scope, const struct dynamos_choice *choice)
{
	return in_task() && tasks_has(scope->tasks, current);
}

static void task_release(struct scope *scope)
{
	if (scope->tasks)
		tasks_destroy(scope->tasks);
}

/* ------------------------------------------------------------------------------------------------------- cgroup */

static int cgroup_scope_parse(struct scope *scope, const char *value, const struct edition *edition,
			struct request *request)
{
	struct cgroup *cgroup;

	if (*value != '/') {
		request_reason(request, "a cgroup's path begins with a slash, at the root of cgroup v2");
		return -EINVAL;
	}
	cgroup = failable(cgroup_get_from_path(value), ERR_PTR(-ENOMEM));
	if (IS_ERR(cgroup)) {
		request_reason(request, "there is no cgroup %.64s", value);
		return -ESRCH;
	}
	scope->cgroup = cgroup;
	return 0;
}

/* Under rcu_read_lock(). */
static bool cgroup_scope_has(struct scope *scope, const struct dynamos_choice *choice)
{
	return in_task() && task_under_cgroup_hierarchy(current, scope->cgroup);
}

static void cgroup_scope_release(struct scope *scope)
{
	if (scope->cgroup)
		cgroup_put(scope->cgroup);
}

/* -------------------------------------------------------------------------------------------------------- share */

static int share_parse(struct scope *scope, const char *value, const struct edition *edition,
		       struct request *request)
{
	if (strncmp(value, "1/", 2) || kstrtou32(value + 2, 10, &scope->share) ||
	    !scope->share || scope->share > SHARE_MOST) {
		request_reason(request, "%.64s is not a share like 1/100, down to 1/%d", value, SHARE_MOST);
		return -EINVAL;
	}
	scope->turns = failable(alloc_percpu(u32), NULL);
	return scope->turns ? 0 : -ENOMEM;
}

/* An interrupt in between makes two calls take turns of the same number, or none: one call more or less. */
static bool share_has(struct scope *scope, const struct dynamos_choice *choice)
{
	u32 turn = this_cpu_inc_return(*scope->turns);

	return turn % scope->share == 0;
}

static void share_release(struct scope *scope)
{
	free_percpu(scope->turns);
}

/* ------------------------------------------------------------------------------------------------------ handler */

static int handler_parse(struct scope *scope, const char *value, const struct edition *edition,
			 struct request *request)
{
	scope->handler = edition->def->traits->handler;
	if (scope->handler)
		return 0;
	request_reason(request, "edition %s has no handler", edition->def->name);
	return -ESRCH;
}

/* A call that comes through the dispatch slot has no arguments to show, and stays outside. */
static bool handler_has(struct scope *scope, const struct dynamos_choice *choice)
{
	return choice->arguments && scope->handler(choice);
}

/* ------------------------------------------------------------------------------------------------------- scopes */

static const struct kind kinds[] = {
	{ "cpus", true, DYNAMOS_SLOT_CPU, cpus_parse, cpus_have, NULL },
	{ "task", true, DYNAMOS_SLOT_TASK, task_parse, task_has, task_release },
	{ "cgroup", true, DYNAMOS_SLOT_CHOOSE, cgroup_scope_parse, cgroup_scope_has, cgroup_scope_release },
	{ "share", true, DYNAMOS_SLOT_CHOOSE, share_parse, share_has, share_release },
	{ "handler", false, DYNAMOS_SLOT_CHOOSE, handler_parse, handler_has, NULL },
};

static const struct kind *kind_find(const char *text, const char **value)
{
	size_t length;
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		length = strlen(kinds[i].name);
		if (strncmp(text, kinds[i].name, length))
			continue;
		if (text[length] != (kinds[i].has_value ? ':' : '\0'))
			continue;
		*value = text + length + kinds[i].has_value;
		return &kinds[i];
	}
	return NULL;
}

static void scope_free(struct scope *scope)
{
	if (scope->kind->release)
		scope->kind->release(scope);
	kfree(scope);
}

static void retire_work(struct work_struct *work)
{
	struct scope *scope = container_of(work, struct scope, retire);

	wait_for_text();
	mutex_lock(&dynamos_lock);
	scope_free(scope);
	mutex_unlock(&dynamos_lock);
}

/**
 * scope_create() - understand what an operator says a scope is
 * @text: e.g. "cpus:0-3" (docs/abi.md)
 * @edition: which those inside will get
 * @request: gets the sentence when the answer is no
 *
 * Return: the scope, or an error pointer: -EINVAL not a scope, -ESRCH what it names is not there, -ENOMEM.
 */
struct scope *scope_create(const char *text, const struct edition *edition, struct request *request)
{
	const struct kind *kind;
	struct scope *scope;
	const char *value;
	int err;

	lockdep_assert_held(&dynamos_lock);
	kind = kind_find(text, &value);
	if (!kind || strlen(text) > SCOPE_TEXT_MAX) {
		request_reason(request, "%.64s is not a scope: cpus:, task:, cgroup:, share: or handler", text);
		return ERR_PTR(-EINVAL);
	}
	scope = failable(kzalloc(sizeof(*scope), GFP_KERNEL), NULL);
	if (!scope)
		return ERR_PTR(-ENOMEM);
	scope->kind = kind;
	strscpy(scope->text, text, sizeof(scope->text));
	INIT_WORK(&scope->retire, retire_work);
	err = kind->parse(scope, value, edition, request);
	if (err) {
		scope_free(scope);
		return ERR_PTR(err);
	}
	return scope;
}

/* Tells the gates' code what it needs; nothing goes by it before the active word says so. */
void scope_enter(struct scope *scope, struct subsystem *subsystem, u32 base, u32 chosen)
{
	struct dynamos_route *route = subsystem->def->route;
	int cpu;

	lockdep_assert_held(&dynamos_lock);
	for_each_possible_cpu(cpu)
		WRITE_ONCE(*per_cpu_ptr(subsystem->def->cpu_route, cpu),
			   cpumask_test_cpu(cpu, &scope->cpus) ? chosen : base);
	/* Whoever is still on the way by an earlier set needs that pointer to stay one. */
	if (scope->tasks)
		WRITE_ONCE(route->tasks, tasks_array(scope->tasks));
	WRITE_ONCE(route->base, base);
	WRITE_ONCE(route->chosen, chosen);
}

/* The gates have been sent elsewhere: it goes when nobody can be in between any more. */
void scope_retire(struct scope *scope)
{
	if (scope)
		queue_work(dynamos_queue, &scope->retire);
}

u32 scope_slot(const struct scope *scope)
{
	return scope->kind->slot;
}

const char *scope_text(const struct scope *scope)
{
	return scope->text;
}

/* Under rcu_read_lock(), in any context. */
bool scope_has(struct scope *scope, const struct dynamos_function *function, const unsigned long *arguments)
{
	struct dynamos_choice choice = { .function = function, .arguments = arguments };

	return scope->kind->has(scope, &choice);
}
