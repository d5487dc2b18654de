// SPDX-License-Identifier: GPL-2.0
/*
 * pass.c - calls that go through the dispatch slot, and those that are held there
 *
 * A pass is counted in before it looks whether it may go on, and counted out while it waits; an exclusive switch says
 * that callers are held before it looks at the counters. So either the pass sees that it is held, or the switch sees
 * the pass: the two full barriers, here and in pass_hold(), are what makes that so on every CPU.
 *
 *	HOLD_NONE	callers pass
 *	HOLD_OPEN	new callers wait. Who is inside already, and makes a call of a function of the same subsystem
 *			from there, passes: it would wait for itself otherwise. So does a caller who is being killed.
 *	HOLD_CLOSED	nobody is inside, and so nobody passes. Only from here does the switch go on; if it finds
 *			somebody after all, who passed while it closed, it opens again and waits longer.
 *
 *	NONE --pass_hold()--> OPEN --pass_close()--> CLOSED --pass_release()--> NONE
 *	  ^                    | ^                     |
 *	  +--- hold_timer -----+ +--- somebody --------+
 *
 * The switch lets callers go at its deadline. Should it be late, because it waits for dynamos_lock or for memory, the
 * timer does it: nobody is held for longer than HOLD_SLACK_MS more. The two moves out of OPEN are made by a
 * compare-and-exchange, so that only one of them happens.
 */
#include <linux/err.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>

#include "core.h"
#include "mutation.h"

/* ------------------------------------------------------------------------------------------- the switch's side */

#define HOLD_SLACK_MS 1000
#define HOLD_AGAIN_MS 10

/* In an interrupt. What is closed is about to end, one way or the other. */
static enum hrtimer_restart hold_expires(struct hrtimer *timer)
{
	struct subsystem *subsystem = container_of(timer, struct subsystem, hold_timer);
	enum hold was = cmpxchg(&subsystem->hold, HOLD_OPEN, HOLD_NONE);

	if (was == HOLD_CLOSED) {
		hrtimer_forward_now(timer, ms_to_ktime(HOLD_AGAIN_MS));
		return HRTIMER_RESTART;
	}
	if (was == HOLD_OPEN)
		wake_up_all(&subsystem->gate_queue);
	return HRTIMER_NORESTART;
}

void pass_init(struct subsystem *subsystem)
{
	init_waitqueue_head(&subsystem->gate_queue);
	hrtimer_init(&subsystem->hold_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	subsystem->hold_timer.function = hold_expires;
}

/* From here on, new callers wait. All of them come through the dispatch slot already. */
void pass_hold(struct subsystem *subsystem, unsigned int timeout_ms)
{
	WRITE_ONCE(subsystem->unfit, NULL);
	WRITE_ONCE(subsystem->switcher, current);
	WRITE_ONCE(subsystem->hold, HOLD_OPEN);
	/* Pairs with the barrier in dynamos_pass_begin(): say so before looking at the counters. */
	smp_mb();
	hrtimer_start(&subsystem->hold_timer, ms_to_ktime(timeout_ms + HOLD_SLACK_MS), HRTIMER_MODE_REL);
}

static bool function_is_quiet(const struct function *function)
{
	return !counts_in_flight(function->def->dispatch.counts);
}

/*
 * Nobody is in any function of the subsystem? While callers are held, who is inside stays on one counter at least, that
 * of its outermost call, until it has left; so zero of each counter, read one after the other, is zero of all.
 */
static bool subsystem_is_quiet(struct subsystem *subsystem)
{
	struct function *function;

	/* Callers do not come by the dispatch slot after a fault. */
	if (READ_ONCE(subsystem->tripped))
		return false;
	list_for_each_entry(function, &subsystem->functions, list)
		if (!function_is_quiet(function))
			return false;
	return editions_are_quiet(subsystem);
}

/* Return: true when nobody is inside and nobody can get in before pass_release(). */
bool pass_close(struct subsystem *subsystem)
{
	if (!subsystem_is_quiet(subsystem))
		return false;
	/*
	 * A full barrier, which pairs like the one in pass_hold(): whoever passed before it saw this is counted. And
	 * with the one in trip_subsystem(): a fault sees that it is closed, or is seen.
	 */
	if (cmpxchg(&subsystem->hold, HOLD_OPEN, HOLD_CLOSED) != HOLD_OPEN)
		return false;
	if (subsystem_is_quiet(subsystem))
		return true;
	WRITE_ONCE(subsystem->hold, HOLD_OPEN);
	wake_up_all(&subsystem->gate_queue);
	return false;
}

/* Everybody goes on, with what is active now. */
void pass_release(struct subsystem *subsystem)
{
	hrtimer_cancel(&subsystem->hold_timer);
	/* Release: who sees it sees what is active. */
	smp_store_release(&subsystem->hold, HOLD_NONE);
	WRITE_ONCE(subsystem->switcher, NULL);
	wake_up_all(&subsystem->gate_queue);
}

/* ------------------------------------------------------------------------------------------- the callers' side */

bool may_sleep_here(void)
{
	return preemptible() && !rcu_preempt_depth();
}

/* Not counted as inside while it waits, but as held, so that the text it will return to stays. */
static void count_out(struct subsystem *subsystem, const struct dynamos_function *function)
{
	atomic_inc(&subsystem->held);
	this_cpu_inc(function->dispatch.counts->returned);
}

static void count_in(struct subsystem *subsystem, const struct dynamos_function *function)
{
	this_cpu_inc(function->dispatch.counts->entered);
	if (!dynamos_mutated(LOST_COUNT))
		atomic_dec(&subsystem->held);
	/* As in dynamos_pass_begin(): be counted before looking. */
	smp_mb__after_atomic();
}

static enum hold hold_now(const struct subsystem *subsystem)
{
	/* Acquire: who sees that callers are let go sees what is active. Pairs with pass_release(). */
	return smp_load_acquire(&subsystem->hold);
}

/* Nobody is let in now, for as long as it takes to make the switch: short, and so without regard to signals. */
static void wait_while_closed(struct subsystem *subsystem, const struct dynamos_function *function)
{
	while (hold_now(subsystem) == HOLD_CLOSED) {
		count_out(subsystem, function);
		wait_event(subsystem->gate_queue, hold_now(subsystem) != HOLD_CLOSED);
		count_in(subsystem, function);
	}
}

static void wait_for_release(struct subsystem *subsystem, const struct dynamos_function *function)
{
	int killed;

	do {
		count_out(subsystem, function);
		killed = wait_event_killable(subsystem->gate_queue, hold_now(subsystem) == HOLD_NONE);
		count_in(subsystem, function);
	} while (!killed && hold_now(subsystem) != HOLD_NONE);
	if (killed)
		wait_while_closed(subsystem, function);
}

/*
 * The author has said that callers may be made to sleep, and this one may not. It passes, and the switch is told to
 * give up. Should it be closed already, this call runs beside the switch: nothing better can be done for it.
 */
static void refuse_to_wait(struct subsystem *subsystem, const struct dynamos_function *function)
{
	WRITE_ONCE(subsystem->unfit, function);
	pr_warn_once("dynamos: %s: called where sleeping is not allowed, against what its subsystem says\n",
		     function->name);
}

static void wait_at_gate(struct subsystem *subsystem, const struct dynamos_function *function)
{
	/* Whoever makes the switch would wait for itself. */
	if (current == READ_ONCE(subsystem->switcher) || current == READ_ONCE(subsystem->author))
		return;
	if (!may_sleep_here()) {
		if (!is_inside(subsystem, function))
			refuse_to_wait(subsystem, function);
	} else if (is_inside(subsystem, function)) {
		wait_while_closed(subsystem, function);
	} else {
		wait_for_release(subsystem, function);
	}
}

/* Which edition a pass goes to, by what the gates are told now. */
static u32 pick(struct subsystem *subsystem, struct dynamos_pass *pass)
{
	unsigned int word = READ_ONCE(*subsystem->def->active);
	struct scope *scope;
	u32 index;

	if (word < DYNAMOS_MAX_EDITIONS)
		return word;
	if (READ_ONCE(subsystem->per_object))
		return object_pick(subsystem, pass);

	index = READ_ONCE(subsystem->def->route->base);
	rcu_read_lock();
	scope = rcu_dereference(subsystem->scope);
	if (scope && scope_has(scope, pass->function, NULL))
		index = READ_ONCE(subsystem->def->route->chosen);
	rcu_read_unlock();
	return index;
}

/**
 * dynamos_pass_begin() - a call has come through the dispatch slot, and is counted
 * @pass: gets where it is to go
 *
 * Context: that of the call; waits only where that may sleep.
 */
void dynamos_pass_begin(struct dynamos_pass *pass)
{
	struct function *function = pass->function->core;
	struct subsystem *subsystem = function->subsystem;

	/* Pairs with the barrier in pass_hold(): be counted before looking whether callers are held. */
	smp_mb();
	if (unlikely(hold_now(subsystem) != HOLD_NONE))
		wait_at_gate(subsystem, pass->function);
	pass->index = pick(subsystem, pass);
	/* The object goes with this call, and nobody else may use it any more: forget it before it is freed. */
	if (pass->function->traits->role == DYNAMOS_DEATH && pass->object)
		shadows_forget_object(subsystem, pass->object);
	pass->target = READ_ONCE(function->wrappers[pass->index]);
}
EXPORT_SYMBOL_GPL(dynamos_pass_begin);

/**
 * dynamos_pass_end() - the call has returned
 * @pass: as it began
 * @born: what the function returned, as a pointer
 */
void dynamos_pass_end(struct dynamos_pass *pass, void *born)
{
	struct function *function = pass->function->core;
	struct subsystem *subsystem = function->subsystem;

	if (pass->session)
		object_done(subsystem, pass);
	if (!pass->record)
		return;
	if (pass->function->traits->role == DYNAMOS_BIRTH)
		object_born(subsystem, pass, IS_ERR(born) ? NULL : born);
	else
		object_leave(subsystem, pass);
}
EXPORT_SYMBOL_GPL(dynamos_pass_end);

/**
 * dynamos_choose() - where a call goes while the mode is `scoped`
 * @def: the function
 * @arguments: the call's argument registers, six of them
 *
 * Context: that of the call; any. Return: the address of a wrapper.
 */
unsigned long dynamos_choose(const struct dynamos_function *def, const unsigned long *arguments)
{
	struct function *function = def->core;
	const struct dynamos_route *route = def->subsystem->route;
	struct scope *scope;
	u32 index;

	/* Its death of objects must not be missed, and is decided about there, once. */
	if (def->traits->role == DYNAMOS_DEATH)
		return READ_ONCE(def->entries[DYNAMOS_SLOT_DISPATCH]);
	rcu_read_lock();
	scope = rcu_dereference(function->subsystem->scope);
	if (scope && scope_has(scope, def, arguments))
		index = READ_ONCE(route->chosen);
	else
		index = READ_ONCE(route->base);
	rcu_read_unlock();
	return READ_ONCE(def->entries[index]);
}
EXPORT_SYMBOL_GPL(dynamos_choose);
