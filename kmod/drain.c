// SPDX-License-Identifier: GPL-2.0
/*
 * drain.c - how many threads are inside an edition, and when its text may go
 *
 * A wrapper counts in as its first act and out as its last, on the CPU it happens to be on. Summing all the exits
 * first and all the entries afterwards gives a number that is never too small: an exit that was counted had its
 * entry counted earlier. It is exact while nobody enters.
 *
 * "Nothing in flight" is not yet "nobody in the text": a thread may stand between the gate's read of the active
 * index and its wrapper's first instruction, or behind its last. Neither stretch sleeps, so a tasks-RCU grace period
 * (every task has slept voluntarily or been in user mode, idle tasks rescheduled by the "rude" flavour) covers both.
 */
#include <linux/jump_label.h>
#include <linux/ktime.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "core.h"

#define DRAIN_POLL_MIN (HZ / 50)
#define DRAIN_POLL_MAX HZ

/* How long an edition drains before it is said who is in the way. */
#define DRAIN_PATIENCE_NS NSEC_PER_SEC

DEFINE_STATIC_KEY_FALSE(dynamos_watch_exits);
EXPORT_SYMBOL_GPL(dynamos_watch_exits);

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

/* Calls in the subsystem's dispatch slots, and those that are held there. */
unsigned long passes_in_flight(const struct subsystem *subsystem)
{
	struct dynamos_function *const *function;
	unsigned long sum = atomic_read(&subsystem->held);

	for (function = subsystem->def->functions; *function; function++)
		sum += counts_in_flight((*function)->dispatch.counts);
	return sum;
}

/* Nobody is in any edition, as far as is known, nor was when the gates came. */
bool editions_are_quiet(const struct subsystem *subsystem)
{
	const struct edition *edition;

	lockdep_assert_held(&dynamos_lock);
	if (subsystem->before_gate || subsystem->unreliable)
		return false;
	list_for_each_entry(edition, &subsystem->editions, list)
		if (edition_in_flight(edition->def))
			return false;
	return true;
}

/* Until everyone who was on a way into or out of a wrapper's text, without being counted, has left it. Sleeps. */
void wait_for_text(void)
{
	synchronize_rcu_tasks();
	synchronize_rcu_tasks_rude();
}

/* Can a new call still get this edition? */
bool edition_can_be_called(const struct edition *edition)
{
	struct subsystem *subsystem = edition->subsystem;

	lockdep_assert_held(&dynamos_lock);
	return subsystem->gated &&
	       (active_edition(subsystem) == edition || partial_edition(subsystem) == edition);
}

/* Has it been left for good, as far as is known now? */
static bool is_left(const struct edition *edition)
{
	return !edition_can_be_called(edition) && !edition->wanted;
}

/*
 * Left, and not yet seen to have drained since. The work may be queued once more while it waits for dynamos_lock, by
 * the very switch that it then sees.
 */
static bool is_draining(const struct edition *edition)
{
	return is_left(edition) && (edition->held || edition->drained != edition->epoch);
}

/* ------------------------------------------------------------------------------------------- who was last to leave */

/**
 * dynamos_leaving() - a call of an edition is about to be counted out
 * @def: the edition
 *
 * Context: that of the call; called only while some edition is waited for. Its own last words are what counts.
 */
void dynamos_leaving(const struct dynamos_edition *def)
{
	struct edition *edition = def->core;
	unsigned long flags;

	/* In an NMI that came into these lines, somebody else is the last. */
	if (!spin_trylock_irqsave(&edition->last_lock, flags))
		return;
	edition->last_ns = ktime_get_mono_fast_ns();
	edition->last_pid = current->pid;
	memcpy(edition->last_comm, current->comm, TASK_COMM_LEN);
	spin_unlock_irqrestore(&edition->last_lock, flags);
}
EXPORT_SYMBOL_GPL(dynamos_leaving);

struct last {
	u64 ns;
	pid_t pid;
	char comm[TASK_COMM_LEN];
};

static void last_read(struct edition *edition, struct last *last)
{
	unsigned long flags;

	spin_lock_irqsave(&edition->last_lock, flags);
	last->ns = edition->last_ns;
	last->pid = edition->last_pid;
	printable_comm(last->comm, edition->last_comm);
	spin_unlock_irqrestore(&edition->last_lock, flags);
}

static void last_clear(struct edition *edition)
{
	unsigned long flags;

	spin_lock_irqsave(&edition->last_lock, flags);
	edition->last_ns = 0;
	edition->last_pid = 0;
	edition->last_comm[0] = '\0';
	spin_unlock_irqrestore(&edition->last_lock, flags);
}

static void watch_start(struct edition *edition)
{
	if (edition->watched)
		return;
	last_clear(edition);
	static_branch_inc(&dynamos_watch_exits);
	edition->watched = true;
}

static void watch_stop(struct edition *edition)
{
	if (!edition->watched)
		return;
	edition->watched = false;
	static_branch_dec(&dynamos_watch_exits);
}

/* -------------------------------------------------------------------------------------------------------- draining */

/* The text of the original's wrappers is that of the dispatch slots too. */
static unsigned long text_in_flight(const struct edition *edition)
{
	unsigned long sum = edition_in_flight(edition->def);

	if (edition == edition->subsystem->original && edition->held)
		sum += passes_in_flight(edition->subsystem);
	return sum;
}

static void drain_again(struct edition *edition)
{
	unsigned long poll;

	/* A reader may sit in there for ever: look again, ever less often. */
	poll = div_u64(ktime_get_ns() - READ_ONCE(edition->left_ns), NSEC_PER_SEC / HZ) / 4;
	poll = clamp_t(unsigned long, poll, DRAIN_POLL_MIN, DRAIN_POLL_MAX);
	queue_delayed_work(dynamos_queue, &edition->drain, poll);
}

static bool has_drained(const struct edition *edition, u64 epoch)
{
	bool drained;

	mutex_lock(&dynamos_lock);
	drained = edition->epoch == epoch && is_left(edition);
	mutex_unlock(&dynamos_lock);
	return drained;
}

/* Nobody is in the edition, and nobody switches to it meanwhile. Return: false when a switch is under way. */
static bool retire(const struct edition *edition, u64 epoch)
{
	if (!edition->def->traits->retire)
		return true;
	if (!mutex_trylock(&edition->subsystem->switching))
		return false;
	if (has_drained(edition, epoch))
		author_call(edition, CALLBACK_RETIRE);
	mutex_unlock(&edition->subsystem->switching);
	return true;
}

/* Who reads of it may remove the module: the event comes when nothing holds that back any more. */
static void drain_finish(struct edition *edition, u64 epoch)
{
	struct last last;

	if (!retire(edition, epoch)) {
		drain_again(edition);
		return;
	}
	watch_stop(edition);
	mutex_lock(&dynamos_lock);
	if (edition->epoch == epoch && is_draining(edition)) {
		last_read(edition, &last);
		edition->drained = epoch;
		/* The edition stays: its module's exit waits for dynamos_lock first, and then for this work to end. */
		if (edition->held) {
			edition->held = false;
			module_put(edition->def->owner);
		}
		event_emit("drained", "subsystem=%s edition=%s us=%llu last=%d comm=\"%s\"",
			   edition->subsystem->def->name, edition->def->name,
			   div_u64((last.ns ?: ktime_get_ns()) - edition->left_ns, NSEC_PER_USEC),
			   last.pid, last.comm);
	}
	mutex_unlock(&dynamos_lock);
}

/* Once for each drain: name who is in the way, unless it has become callable while grace periods were waited for. */
static void drain_complain(struct edition *edition, u64 epoch, unsigned long in_flight)
{
	struct look *look = NULL;

	if (edition->complained || ktime_get_ns() - READ_ONCE(edition->left_ns) < DRAIN_PATIENCE_NS)
		return;
	mutex_lock(&dynamos_lock);
	if (edition->epoch == epoch && is_left(edition)) {
		edition->complained = true;
		look = look_inside(edition->subsystem);
		event_emit("draining", "subsystem=%s edition=%s in_flight=%lu",
			   edition->subsystem->def->name, edition->def->name, in_flight);
	}
	if (look)
		look_report(edition->subsystem, look);
	mutex_unlock(&dynamos_lock);
	kfree(look);
}

static void drain_work(struct work_struct *work)
{
	struct edition *edition = container_of(to_delayed_work(work), struct edition, drain);
	unsigned long in_flight;
	bool leaving;
	u64 epoch;

	mutex_lock(&dynamos_lock);
	epoch = edition->epoch;
	leaving = is_draining(edition);
	mutex_unlock(&dynamos_lock);
	if (!leaving) {
		watch_stop(edition);
		return;
	}

	if (edition->flushed != epoch) {
		wait_for_text();
		edition->flushed = epoch;
		edition->complained = false;
		last_clear(edition);
	}
	in_flight = text_in_flight(edition);
	if (in_flight) {
		watch_start(edition);
		drain_complain(edition, epoch, in_flight);
		drain_again(edition);
		return;
	}
	wait_for_text();
	drain_finish(edition, epoch);
}

void edition_drain_init(struct edition *edition)
{
	INIT_DELAYED_WORK(&edition->drain, drain_work);
}

/* The edition has just stopped being callable. */
void edition_drain_start(struct edition *edition)
{
	lockdep_assert_held(&dynamos_lock);
	mod_delayed_work(dynamos_queue, &edition->drain, 0);
}

/* Waits for a drain that is being looked at; the caller must not hold dynamos_lock. */
void edition_drain_cancel(struct edition *edition)
{
	cancel_delayed_work_sync(&edition->drain);
	watch_stop(edition);
}
