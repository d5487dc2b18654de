/* SPDX-License-Identifier: GPL-2.0 */
/*
 * cpus.h - what the editions of `placement` see of a CPU
 *
 * The kernel tells modules neither which CPUs are idle nor who waits for one. What can be read is which task a CPU runs
 * now: its idle task, if it has nothing to do. That is enough but for one thing. Who is woken for an idle CPU is not
 * there yet for some microseconds: the CPU still runs its idle task, and the next one who looks would send another task
 * after the first, and another, while other CPUs have none. So a CPU that is idle is claimed, once: until its idle task
 * has been put aside, it is not free. If the first one never comes, because another CPU takes it over, it stays claimed
 * until somebody else has run there, and calls get the original's answer.
 *
 * Included once by each edition's module, which gets its own claims and its own count of answers.
 */
#ifndef _DYNAMOS_PLACEMENT_CPUS_H
#define _DYNAMOS_PLACEMENT_CPUS_H

#include <linux/cpumask.h>
#include <linux/moduleparam.h>
#include <linux/percpu.h>
#include <linux/sched.h>

#include "../../compat.h"

/* By CPU: what turns_of() of its idle task was when it was claimed. */
static DEFINE_PER_CPU(unsigned long, dynamos_claimed);

/*
 * What a CPU runs now; it may run something else already. The task stays readable until the caller lets interrupts in,
 * because it is freed an RCU grace period after it has left its CPU at the earliest, and none ends while some CPU has
 * them off.
 */
static inline struct task_struct *task_on(int cpu)
{
	return READ_ONCE(*compat_current_on(cpu));
}

/* A CPU's own idle task has no pid. Who makes a CPU rest (play_idle) has one; is_idle_task() knows no difference. */
static inline bool is_nobody(const struct task_struct *task)
{
	return !task->pid;
}

/* How often a task has been put aside, and 1: no CPU is claimed in the beginning. */
static inline unsigned long turns_of(const struct task_struct *task)
{
	return READ_ONCE(task->nvcsw) + READ_ONCE(task->nivcsw) + 1;
}

/*
 * May a task be sent there? Affinity and cpusets are in cpus_ptr; a CPU that is on its way out is not active any more.
 * Either may have changed when the task gets there: the caller of select_task_rq_fair looks again.
 */
static inline bool is_allowed(const struct task_struct *task, int cpu)
{
	return cpumask_test_cpu(cpu, task->cpus_ptr) && cpu_active(cpu);
}

/*
 * Claims a CPU if it is idle and nobody was sent there since. Two who come at the same time may both get it, as both
 * would have been told by the kernel that it is idle.
 */
static inline bool claim(int cpu)
{
	const struct task_struct *task = task_on(cpu);
	unsigned long *claimed = per_cpu_ptr(&dynamos_claimed, cpu);
	unsigned long turns;

	if (!is_nobody(task))
		return false;
	turns = turns_of(task);
	if (READ_ONCE(*claimed) == turns)
		return false;
	WRITE_ONCE(*claimed, turns);
	return true;
}

static DEFINE_PER_CPU(unsigned long, dynamos_answered);

/* The edition has answered a call itself. Counted by CPU: a word for all would be wanted by all CPUs at once. */
static inline void count_answer(void)
{
	this_cpu_inc(dynamos_answered);
}

static int answered_get(char *buffer, const struct kernel_param *param)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(dynamos_answered, cpu));
	return scnprintf(buffer, PAGE_SIZE, "%lu\n", sum);
}

static const struct kernel_param_ops answered_ops = {
	.get = answered_get,
};
module_param_cb(answered, &answered_ops, NULL, 0444);
MODULE_PARM_DESC(answered, "how often the edition has chosen a CPU itself, and not asked the original");

#endif /* _DYNAMOS_PLACEMENT_CPUS_H */
