// SPDX-License-Identifier: GPL-2.0
/*
 * switch.c - the protocol: from one active edition to the next
 *
 * Mode `concurrent`: one store makes the new edition active for every function of the subsystem. A call that read the
 * old index before the store runs the old edition to its end, beside calls that got the new one. What is left of the
 * old edition is watched by inflight.c until it has drained.
 */
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>

#include "core.h"

/* An edition that can be called keeps its module. The original's module is kept by the gates themselves. */
static int edition_hold(struct edition *edition, struct request *request)
{
	if (edition->held || edition == edition->subsystem->original)
		return 0;
	if (!try_module_get(edition->def->owner)) {
		request_reason(request, "the module of edition %s is being removed", edition->def->name);
		return -ENODEV;
	}
	edition->held = true;
	return 0;
}

static void make_active(struct subsystem *subsystem, struct edition *to)
{
	struct edition *from = rcu_dereference_protected(subsystem->active, lockdep_is_held(&dynamos_lock));

	to->epoch++;
	from->epoch++;
	WRITE_ONCE(from->left_ns, ktime_get_ns());
	/*
	 * The switch. Release: the table's slot for this index was written before; the gate's two loads depend on
	 * each other and so see it. From here on a new call gets the new edition, on every CPU, in every function.
	 */
	smp_store_release(subsystem->def->active, to->def->index);
	rcu_assign_pointer(subsystem->active, to);
	WRITE_ONCE(subsystem->switches, subsystem->switches + 1);
	trace_switched(subsystem->def->name, from->def->index, to->def->index);
	edition_drain_start(from);
}

static int switch_locked(const char *subsystem_name, const char *edition_name, struct request *request)
{
	struct subsystem *subsystem;
	struct edition *edition, *from;
	int err;

	subsystem = subsystem_find(subsystem_name);
	if (!subsystem) {
		request_reason(request, "there is no subsystem %s", subsystem_name);
		return -ENOENT;
	}
	edition = edition_find(subsystem, edition_name);
	if (!edition) {
		request_reason(request, "subsystem %s has no edition %s", subsystem_name, edition_name);
		return -ENXIO;
	}
	from = rcu_dereference_protected(subsystem->active, lockdep_is_held(&dynamos_lock));
	if (from == edition)
		return 0;
	err = edition_hold(edition, request);
	if (err)
		return err;
	make_active(subsystem, edition);
	event_emit("switched", "subsystem=%s from=%s to=%s mode=concurrent by=%d",
		   subsystem_name, from->def->name, edition_name, request->by);
	return 0;
}

/**
 * switch_edition() - make an edition the active one
 * @subsystem: name of the subsystem
 * @edition: name of the edition
 * @request: who asks; gets the sentence when the answer is no
 *
 * Return: 0 also when it is active already; -ENOENT, -ENXIO, -ENODEV as docs/abi.md says; -EINTR when a signal came
 * while waiting. On failure nothing has changed.
 */
int switch_edition(const char *subsystem, const char *edition, struct request *request)
{
	int err;

	if (mutex_lock_interruptible(&dynamos_lock)) {
		request_reason(request, "interrupted by a signal while waiting for its turn");
		return -EINTR;
	}
	err = switch_locked(subsystem, edition, request);
	mutex_unlock(&dynamos_lock);
	return err;
}
