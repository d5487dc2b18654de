// SPDX-License-Identifier: GPL-2.0
/*
 * inflight.c - how many threads are inside an edition, and when its text may go
 *
 * A wrapper counts in as its first act and out as its last, on the CPU it happens to be on. Summing all the exits
 * first and all the entries afterwards gives a number that is never too small: an exit that was counted had its
 * entry counted earlier. It is exact while nobody enters.
 *
 * "Nothing in flight" is not yet "nobody in the text": a thread may stand between the gate's read of the active
 * index and its wrapper's first instruction, or behind its last. Neither stretch sleeps, so a tasks-RCU grace period
 * (every task has slept voluntarily or been in user mode, idle tasks rescheduled by the "rude" flavour) covers both.
 */
#include <linux/ktime.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>

#include "core.h"

#define DRAIN_POLL_MIN (HZ / 50)
#define DRAIN_POLL_MAX HZ

unsigned long counts_entered(const struct dynamos_counts __percpu *counts)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu_ptr(counts, cpu)->entered);
	return sum;
}

static unsigned long counts_returned(const struct dynamos_counts __percpu *counts)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu_ptr(counts, cpu)->returned);
	return sum;
}

unsigned long counts_in_flight(const struct dynamos_counts __percpu *counts)
{
	unsigned long returned = counts_returned(counts);

	/* Pairs with the order of the two increments in a wrapper, which x86 keeps: exits before entries. */
	smp_rmb();
	return counts_entered(counts) - returned;
}

/* Of an edition's own replacements, or of every function's original. Its module must be there. */
unsigned long edition_in_flight(const struct dynamos_edition *edition)
{
	const struct dynamos_replacement *const *replacement;
	struct dynamos_function *const *function;
	unsigned long sum = 0;

	if (edition->replacements) {
		for (replacement = edition->replacements; *replacement; replacement++)
			sum += counts_in_flight((*replacement)->counts);
		return sum;
	}
	for (function = edition->subsystem->functions; *function; function++)
		sum += counts_in_flight((*function)->original.counts);
	return sum;
}

/* Until everyone who was on a way into or out of a wrapper's text, without being counted, has left it. Sleeps. */
void wait_for_text(void)
{
	synchronize_rcu_tasks();
	synchronize_rcu_tasks_rude();
}

/* Can a new call still get this edition? */
static bool can_be_called(const struct edition *edition)
{
	lockdep_assert_held(&dynamos_lock);
	return edition->subsystem->gated && rcu_access_pointer(edition->subsystem->active) == edition;
}

/* Who reads of it may remove the module: the event comes when nothing holds that back any more. */
static void drain_finish(struct edition *edition, u64 epoch)
{
	mutex_lock(&dynamos_lock);
	if (edition->epoch == epoch && !can_be_called(edition)) {
		/* The edition stays: its module's exit waits for dynamos_lock first, and then for this work to end. */
		if (edition->held) {
			edition->held = false;
			module_put(edition->def->owner);
		}
		event_emit("drained", "subsystem=%s edition=%s us=%llu",
			   edition->subsystem->def->name, edition->def->name,
			   div_u64(ktime_get_ns() - edition->left_ns, NSEC_PER_USEC));
	}
	mutex_unlock(&dynamos_lock);
}

static void drain_work(struct work_struct *work)
{
	struct edition *edition = container_of(to_delayed_work(work), struct edition, drain);
	unsigned long poll;
	bool leaving;
	u64 epoch;

	mutex_lock(&dynamos_lock);
	epoch = edition->epoch;
	leaving = !can_be_called(edition);
	mutex_unlock(&dynamos_lock);
	if (!leaving)
		return;

	wait_for_text();
	if (edition_in_flight(edition->def)) {
		/* A reader may sit in there for ever: look again, ever less often. */
		poll = div_u64(ktime_get_ns() - READ_ONCE(edition->left_ns), NSEC_PER_SEC / HZ) / 4;
		poll = clamp_t(unsigned long, poll, DRAIN_POLL_MIN, DRAIN_POLL_MAX);
		queue_delayed_work(system_unbound_wq, &edition->drain, poll);
		return;
	}
	wait_for_text();
	drain_finish(edition, epoch);
}

void edition_drain_init(struct edition *edition)
{
	INIT_DELAYED_WORK(&edition->drain, drain_work);
}

/* The edition has just stopped being active. */
void edition_drain_start(struct edition *edition)
{
	lockdep_assert_held(&dynamos_lock);
	mod_delayed_work(system_unbound_wq, &edition->drain, 0);
}

/* Waits for a drain that is being looked at; the caller must not hold dynamos_lock. */
void edition_drain_cancel(struct edition *edition)
{
	cancel_delayed_work_sync(&edition->drain);
}
