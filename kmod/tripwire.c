// SPDX-License-Identifier: GPL-2.0
/*
 * tripwire.c - what an edition's fault does
 *
 * A thread that faults inside an edition, or a warning from there if the operator wants that, sends the edition's
 * subsystem to `original` and puts the edition in quarantine. That happens in two steps:
 *
 *	at the fault	in whatever context, with whatever locks: nothing is taken, waited for or woken here. The thread
 *			is taken out of the counters of the calls that it will never return from. The edition is marked,
 *			and the subsystem's word goes to the original's, where the editions bear one another's company;
 *			from then on send_gates() lets no other word stand.
 *	in the work	the rest: a switch like any other, but urgent, and the events. If the editions do not bear each
 *			other's company, it is this switch that takes calls away, and it is tried until it succeeds.
 *
 * Who died may have held locks of the kernel's, and half of a change; what it did to the machine is not undone. An
 * object that it was in a call about (mode per-object) never comes to rest, and keeps its edition.
 */
#include <linux/irq_work.h>
#include <linux/kallsyms.h>
#include <linux/kdebug.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>
#include <linux/rculist.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <trace/events/error_report.h>

#include "core.h"

/* As deep as a stack is looked at. */
#define TRIP_DEPTH 96

enum wire { WIRE_OFF, WIRE_OOPS, WIRE_WARN };

static const char *const wire_names[] = { "off", "oops", "warn" };

static enum wire wire = WIRE_OOPS;		/* written under kernel_param_lock() */

static int wire_set(const char *value, const struct kernel_param *param)
{
	int found = sysfs_match_string(wire_names, value);

	if (found < 0)
		return found;
	WRITE_ONCE(wire, found);
	return 0;
}

static int wire_get(char *buffer, const struct kernel_param *param)
{
	return sprintf(buffer, "%s\n", wire_names[READ_ONCE(wire)]);
}

static const struct kernel_param_ops wire_ops = {
	.set = wire_set,
	.get = wire_get,
};
module_param_cb(tripwire, &wire_ops, NULL, 0644);
MODULE_PARM_DESC(tripwire, "what takes an edition's subsystem to the original: off, oops, or warn (both)");

/* ------------------------------------------------------------------------------------------------- at the fault */

/* A stack that was read: addresses in the text, from inside out. */
struct stack {
	unsigned int count;
	unsigned long at[TRIP_DEPTH];
};

/* The innermost address that is in an edition; 0: there is none. */
static unsigned long place_in(const struct stack *stack, const struct edition *edition)
{
	unsigned int i;

	for (i = 0; i < stack->count; i++)
		if (text_is_of(edition, stack->at[i]))
			return stack->at[i];
	return 0;
}

static void trip_edition(struct edition *edition, unsigned long at, enum why why)
{
	struct trip *trip = &edition->trip;

	if (atomic_cmpxchg(&trip->claimed, 0, 1))
		return;
	trip->why = why;
	trip->pid = current->pid;
	trip->at = at;
	memcpy(trip->comm, current->comm, sizeof(trip->comm));
	WRITE_ONCE(edition->quarantine, why);
	/* Pairs with the work's look: who sees that it is ready sees all of it. */
	smp_store_release(&trip->ready, true);
}

/* Do calls go where they can be taken away from at any time, and is that where the tripped edition is? */
static bool can_go_at_once(const struct subsystem *subsystem)
{
	const struct edition *active = rcu_dereference(subsystem->active);
	const struct edition *partial = rcu_dereference(subsystem->partial);

	if (!active->quarantine && !(partial && partial->quarantine))
		return false;
	return edition_modes(active) & DYNAMOS_CONCURRENT && (!partial || edition_modes(partial) & DYNAMOS_CONCURRENT);
}

/* The thread is not in flight any more: it will not come back. */
static void count_dead(struct subsystem *subsystem, const struct stack *stack)
{
	struct edition *edition;

	list_for_each_entry_rcu(edition, &subsystem->editions, list)
		if (place_in(stack, edition))
			atomic_inc(&edition->died);
	stack_is_gone(subsystem, stack->at, stack->count);
}

static void trip_subsystem(struct subsystem *subsystem, const struct stack *stack, enum why why)
{
	struct edition *edition;
	unsigned long at;

	list_for_each_entry_rcu(edition, &subsystem->editions, list) {
		at = place_in(stack, edition);
		/* The kernel's own code is nobody's to blame. */
		if (at && edition != subsystem->original)
			trip_edition(edition, at, why);
	}
	if (!can_go_at_once(subsystem))
		return;
	WRITE_ONCE(subsystem->tripped, true);
	/* Pairs with the barriers in send_gates() and pass_close(): the second to come sees the first one's store. */
	smp_mb();
	/* Nobody is inside, and data may be half moved: whoever closed the gate opens it soon. */
	if (READ_ONCE(subsystem->hold) == HOLD_CLOSED) {
		WRITE_ONCE(subsystem->tripped, false);
		return;
	}
	WRITE_ONCE(*subsystem->def->active, subsystem->original->def->index);
}

static struct irq_work trip_irq;

static void trip(struct pt_regs *regs, enum why why)
{
	struct subsystem *subsystem;
	struct stack stack;

	stack.count = stack_read(regs, stack.at, ARRAY_SIZE(stack.at));
	if (!stack.count)
		return;
	rcu_read_lock();
	list_for_each_entry_rcu(subsystem, &subsystems, list) {
		if (why == WHY_OOPS)
			count_dead(subsystem, &stack);
		if (READ_ONCE(wire) != WIRE_OFF)
			trip_subsystem(subsystem, &stack, why);
	}
	rcu_read_unlock();
	irq_work_queue(&trip_irq);
}

static int dies(struct notifier_block *block, unsigned long event, void *data)
{
	struct die_args *args = data;

	if (event == DIE_OOPS)
		trip(args->regs, WHY_OOPS);
	return NOTIFY_DONE;
}

static struct notifier_block die_notifier = {
	.notifier_call = dies,
};

static void warns(void *data, enum error_detector detector, unsigned long id)
{
	if (detector == ERROR_DETECTOR_WARN && READ_ONCE(wire) == WIRE_WARN)
		trip(NULL, WHY_WARN);
}

/* --------------------------------------------------------------------------------------------------- in the work */

static bool has_tripped(const struct subsystem *subsystem)
{
	const struct edition *edition;

	list_for_each_entry_rcu(edition, &subsystem->editions, list)
		if (atomic_read(&edition->trip.claimed))
			return true;
	return false;
}

static void trip_irq_work(struct irq_work *work)
{
	struct subsystem *subsystem;

	rcu_read_lock();
	list_for_each_entry_rcu(subsystem, &subsystems, list)
		if (has_tripped(subsystem))
			mod_delayed_work(dynamos_queue, &subsystem->rescue, 0);
	rcu_read_unlock();
}

static void tell(struct edition *edition)
{
	struct trip *trip = &edition->trip;
	char comm[TASK_COMM_LEN], at[KSYM_NAME_LEN];

	/* Pairs with trip_edition(). */
	if (!smp_load_acquire(&trip->ready))
		return;
	trip->ready = false;
	snprintf(at, sizeof(at), "%ps", (void *)trip->at);
	/* Of "function [module]", the function. */
	strreplace(at, ' ', '\0');
	event_emit("tripped", "subsystem=%s edition=%s why=%s pid=%d comm=\"%s\" at=%s",
		   edition->subsystem->def->name, edition->def->name, why_name(trip->why), trip->pid,
		   printable_comm(comm, trip->comm), at);
	event_emit("quarantined", "subsystem=%s edition=%s why=%s by=0", edition->subsystem->def->name,
		   edition->def->name, why_name(trip->why));
}

/* Return: does any call still get an edition that is in quarantine, as far as the registry knows? */
static bool tell_all(struct subsystem *subsystem)
{
	struct edition *edition;
	bool callable = false;

	mutex_lock(&dynamos_lock);
	list_for_each_entry(edition, &subsystem->editions, list) {
		tell(edition);
		callable |= edition->quarantine && edition_can_be_called(edition);
	}
	mutex_unlock(&dynamos_lock);
	return callable;
}

static void rescue_work(struct work_struct *work)
{
	struct subsystem *subsystem = container_of(to_delayed_work(work), struct subsystem, rescue);

	if (tell_all(subsystem) && switch_unasked(subsystem->def->name, "original", 0, NULL)) {
		queue_delayed_work(dynamos_queue, &subsystem->rescue, wait_longer(&subsystem->rescue_wait));
		return;
	}
	subsystem->rescue_wait = 0;
	mutex_lock(&dynamos_lock);
	/* A fault that comes now has set it again, or will, and is told of by another work. */
	if (!active_edition(subsystem)->quarantine && !partial_edition(subsystem))
		WRITE_ONCE(subsystem->tripped, false);
	mutex_unlock(&dynamos_lock);
}

/* The edition is no longer in quarantine: its next fault counts again. */
void trip_reset(struct edition *edition)
{
	lockdep_assert_held(&dynamos_lock);
	tell(edition);
	atomic_set(&edition->trip.claimed, 0);
}

void rescue_init(struct subsystem *subsystem)
{
	INIT_DELAYED_WORK(&subsystem->rescue, rescue_work);
}

/* --------------------------------------------------------------------------------------------------------- start */

int tripwire_start(void)
{
	int err;

	init_irq_work(&trip_irq, trip_irq_work);
	err = failable(register_trace_error_report_end(warns, NULL), -ENOMEM);
	if (err)
		return err;
	err = failable(register_die_notifier(&die_notifier), -ENOMEM);
	if (err) {
		unregister_trace_error_report_end(warns, NULL);
		tracepoint_synchronize_unregister();
	}
	return err;
}

void tripwire_stop(void)
{
	unregister_die_notifier(&die_notifier);
	unregister_trace_error_report_end(warns, NULL);
	tracepoint_synchronize_unregister();
	irq_work_sync(&trip_irq);
}
