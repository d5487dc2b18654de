// SPDX-License-Identifier: GPL-2.0
/*
 * lease.c - who looks after a subsystem, and what is done when nobody does any more
 *
 *	         lease                     closed, or silent for ttl_ms
 *	NONE ------------> HELD ------------------------------------------> LOST
 *	 ^  ^                | ^                                             |  |
 *	 |  +---- release ---+ +------- lease, by whoever comes first -------+  |
 *	 +------------- grace_ms are over, and the baseline is active ----------+
 *
 * A lease belongs to an open file of /dev/dynamos. All of it is protected by dynamos_lock; the switch to the baseline
 * is made without that, like any other, and asks before each of its steps whether it is still wanted.
 */
#include <linux/jiffies.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "core.h"

const char *lease_name(enum lease_state state)
{
	static const char *const names[] = { "none", "held", "lost" };

	return names[state];
}

static void set_state(struct lease *lease, enum lease_state state)
{
	lockdep_assert_held(&dynamos_lock);
	WRITE_ONCE(lease->state, state);
	if (state == LEASE_NONE)
		WRITE_ONCE(lease->pid, 0);
	if (state != LEASE_HELD)
		lease->holder = NULL;
}

/* Looks again in so many milliseconds; 0 for never is the caller's to know. */
static void look_in(struct lease *lease, unsigned int ms)
{
	unsigned long delay = msecs_to_jiffies(ms);

	lease->due = jiffies + delay;
	mod_delayed_work(dynamos_queue, &lease->work, delay);
}

static void lose(struct subsystem *subsystem, const char *why)
{
	struct lease *lease = &subsystem->lease;

	set_state(lease, LEASE_LOST);
	lease->expired = false;
	event_emit("lease_lost", "subsystem=%s by=%d why=%s grace_ms=%u", subsystem->def->name, lease->pid, why,
		   lease->grace_ms);
	look_in(lease, lease->grace_ms);
}

/* ------------------------------------------------------------------------------------------------------- its end */

/* The grace is over. Return: the edition to switch to, or NULL if things are to be let be. Says so once. */
static const char *expire(struct subsystem *subsystem)
{
	struct lease *lease = &subsystem->lease;
	struct edition *baseline = edition_find(subsystem, lease->baseline, NULL);

	if (!lease->expired) {
		event_emit("lease_expired", "subsystem=%s action=%s baseline=%s", subsystem->def->name,
			   lease->hold ? "hold" : "baseline", lease->baseline);
		lease->wait = 0;
	}
	lease->expired = true;
	if (lease->hold) {
		set_state(lease, LEASE_NONE);
		return NULL;
	}
	return baseline && !baseline->quarantine && is_enabled() ? baseline->def->name : subsystem->original->def->name;
}

/* Was it lost, and is its grace over? Then the switch to the baseline is wanted still. */
bool lease_is_over(const struct lease *lease)
{
	lockdep_assert_held(&dynamos_lock);
	return lease->state == LEASE_LOST && lease->expired;
}

/* Unless somebody has taken it over meanwhile. */
static void baseline_was_tried(struct lease *lease, int err)
{
	mutex_lock(&dynamos_lock);
	if (lease_is_over(lease)) {
		if (err)
			queue_delayed_work(dynamos_queue, &lease->work, wait_longer(&lease->wait));
		else
			set_state(lease, LEASE_NONE);
	}
	mutex_unlock(&dynamos_lock);
}

static void lease_work(struct work_struct *work)
{
	struct subsystem *subsystem = container_of(to_delayed_work(work), struct subsystem, lease.work);
	struct lease *lease = &subsystem->lease;
	char baseline[DYNAMOS_NAME_MAX + 1] = "";
	const char *edition;

	mutex_lock(&dynamos_lock);
	/* It was renewed, or taken over, while this waited for the lock. */
	if (time_before(jiffies, lease->due)) {
		mutex_unlock(&dynamos_lock);
		return;
	}
	if (lease->state == LEASE_HELD && lease->ttl_ms) {
		lose(subsystem, "silent");
	} else if (lease->state == LEASE_LOST) {
		edition = expire(subsystem);
		if (edition)
			strscpy(baseline, edition, sizeof(baseline));
	}
	mutex_unlock(&dynamos_lock);
	if (*baseline)
		baseline_was_tried(lease, switch_unasked(subsystem->def->name, baseline, 0, lease));
}

/* ---------------------------------------------------------------------------------------------------- from outside */

static bool is_same(const struct lease *lease, const struct lease_options *options)
{
	return lease->hold == options->hold && !strcmp(lease->baseline, options->baseline) &&
	       lease->grace_ms == options->grace_ms && lease->ttl_ms == options->ttl_ms;
}

static void take(struct subsystem *subsystem, const struct lease_options *options, const struct request *request)
{
	struct lease *lease = &subsystem->lease;
	bool adopted = lease->state == LEASE_LOST;
	bool is_news = lease->state != LEASE_HELD || !is_same(lease, options);

	set_state(lease, LEASE_HELD);
	lease->holder = request->file;
	WRITE_ONCE(lease->pid, request->by);
	lease->hold = options->hold;
	strscpy(lease->baseline, options->baseline, sizeof(lease->baseline));
	lease->grace_ms = options->grace_ms;
	lease->ttl_ms = options->ttl_ms;
	if (lease->ttl_ms)
		look_in(lease, lease->ttl_ms);
	else
		cancel_delayed_work(&lease->work);
	if (is_news)
		event_emit("leased", "subsystem=%s by=%d action=%s baseline=%s grace_ms=%u ttl_ms=%u adopted=%d",
			   subsystem->def->name, request->by, options->hold ? "hold" : "baseline",
			   options->baseline, options->grace_ms, options->ttl_ms, adopted);
}

static int check_holder(const struct lease *lease, struct request *request)
{
	if (lease->state != LEASE_HELD || lease->holder == request->file)
		return 0;
	request_reason(request, "process %d holds the lease", lease->pid);
	return -EBUSY;
}

/**
 * lease_take() - an open file says that it looks after a subsystem, or that it still does
 * @subsystem_name: name of the subsystem
 * @options: what is to be done when it does not any more
 * @request: who asks; gets the sentence when the answer is no
 *
 * Return: 0; -ENOENT, -ENXIO no such subsystem, or baseline, -EBUSY another one holds it.
 */
int lease_take(const char *subsystem_name, const struct lease_options *options, struct request *request)
{
	struct subsystem *subsystem;
	int err = -ENOENT;

	mutex_lock(&dynamos_lock);
	subsystem = subsystem_find(subsystem_name, request);
	if (subsystem)
		err = check_holder(&subsystem->lease, request);
	if (!err && !edition_find(subsystem, options->baseline, request))
		err = -ENXIO;
	if (!err)
		take(subsystem, options, request);
	mutex_unlock(&dynamos_lock);
	return err;
}

/* Return: 0 also when nobody holds it; -ENOENT, -EBUSY another one does. */
int lease_release(const char *subsystem_name, struct request *request)
{
	struct subsystem *subsystem;
	int err = -ENOENT;

	mutex_lock(&dynamos_lock);
	subsystem = subsystem_find(subsystem_name, request);
	if (subsystem)
		err = check_holder(&subsystem->lease, request);
	if (!err && subsystem->lease.state != LEASE_NONE) {
		set_state(&subsystem->lease, LEASE_NONE);
		cancel_delayed_work(&subsystem->lease.work);
		event_emit("released", "subsystem=%s by=%d", subsystem_name, request->by);
	}
	mutex_unlock(&dynamos_lock);
	return err;
}

/* An open file is closed. */
void leases_drop(const void *file)
{
	struct subsystem *subsystem;

	mutex_lock(&dynamos_lock);
	list_for_each_entry(subsystem, &subsystems, list)
		if (subsystem->lease.state == LEASE_HELD && subsystem->lease.holder == file)
			lose(subsystem, "closed");
	mutex_unlock(&dynamos_lock);
}

void lease_init(struct subsystem *subsystem)
{
	INIT_DELAYED_WORK(&subsystem->lease.work, lease_work);
}

/* The subsystem is going, and nothing is to be told of it any more. */
void lease_end(struct subsystem *subsystem)
{
	set_state(&subsystem->lease, LEASE_NONE);
}

/* The subsystem is in the list no more. */
void lease_cancel(struct subsystem *subsystem)
{
	cancel_delayed_work_sync(&subsystem->lease.work);
}
