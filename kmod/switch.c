// SPDX-License-Identifier: GPL-2.0
/*
 * switch.c - the transactions: from one active edition to the next, in each mode
 *
 * docs/consistency.md says what each of them promises to calls that are already running. What they have in common: one
 * store to the subsystem's active word is the switch; everything it needs stands before that, and whatever it leaves
 * behind is seen to afterwards, by the drain of what can no longer be called.
 *
 * The gates' words are written with dynamos_lock held. The waiting (for a grace period, for callers to leave) is done
 * without it, under the subsystem's own `switching`, so that other subsystems go on and sysfs can be read.
 */
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "core.h"

#define ALL_MODES ((1U << MODES) - 1)

/* How often the stacks are looked at while an exclusive switch waits for those who came before the gates. */
#define RELOOK_MIN_MS 20
#define RELOOK_MAX_MS 500

struct transaction {
	struct subsystem *subsystem;
	struct edition *to;
	struct edition *from;		/* the active one, or, on the way back to it, the partial one */
	const struct switch_options *options;
	struct request *request;
	enum mode mode;
	bool holds;			/* the reference to the module of `to` was taken by this transaction */
	bool urgent;			/* plainly to the original: comes before everything else */
	bool undoes;			/* to the active one, on the way to the original, whatever is wrong with it */
	unsigned int overtaken;		/* as the subsystem had it when this began */
	u64 epoch;			/* of `to`, when this began */
};

const char *mode_name(enum mode mode)
{
	static const char *const names[] = { "concurrent", "exclusive", "per-object", "scoped" };

	return mode < MODES ? names[mode] : "?";
}

/* -------------------------------------------------------------------------------------------- what is possible */

static bool has_objects(const struct subsystem *subsystem)
{
	struct dynamos_function *const *function;

	for (function = subsystem->def->functions; *function; function++)
		if (*(void *const *)(*function)->object)
			return true;
	return false;
}

/* Bits by enum mode, which are those of .modes. */
u32 edition_modes(const struct edition *edition)
{
	const struct dynamos_edition_traits *traits = edition->def->traits;
	u32 modes = traits->modes;

	if (!modes)
		modes = traits->transfer ? DYNAMOS_EXCLUSIVE | DYNAMOS_PER_OBJECT : ALL_MODES;
	if (!edition->subsystem->def->traits->may_sleep)
		modes &= ~DYNAMOS_EXCLUSIVE;
	if (!has_objects(edition->subsystem))
		modes &= ~DYNAMOS_PER_OBJECT;
	return modes;
}

/* A switch by which data has to be moved could be ended only by an exclusive one. */
static bool may_transfer(const struct transaction *transaction)
{
	return active_edition(transaction->subsystem)->def->traits->transfer || transaction->to->def->traits->transfer;
}

static u32 modes_now(const struct transaction *transaction)
{
	struct subsystem *subsystem = transaction->subsystem;
	struct edition *partial = partial_edition(subsystem);
	u32 modes = edition_modes(active_edition(subsystem)) & edition_modes(transaction->to);

	if (partial)
		modes &= edition_modes(partial);
	if (!subsystem->def->traits->may_sleep && may_transfer(transaction))
		modes &= ~DYNAMOS_PER_OBJECT;
	if (!subsystem->per_object)
		return modes;
	/* Object by object, they can only go on to where they are going. */
	if (transaction->to != partial)
		modes &= ~DYNAMOS_PER_OBJECT;
	/* Some have been moved, and some have not: that can be finished or taken back, and no more. */
	if (objects_have_transfer(subsystem)) {
		bool is_one = transaction->to == partial || transaction->to == active_edition(subsystem);

		modes &= is_one ? DYNAMOS_EXCLUSIVE | DYNAMOS_PER_OBJECT : 0;
	}
	return modes;
}

/* Why a mode is not among the possible ones. */
static void explain_mode(const struct transaction *transaction)
{
	struct subsystem *subsystem = transaction->subsystem;
	const char *name = subsystem->def->name;
	struct request *request = transaction->request;

	if (transaction->mode == MODE_EXCLUSIVE && !subsystem->def->traits->may_sleep)
		request_reason(request, "functions of %s may be called where sleeping is not allowed", name);
	else if (transaction->mode == MODE_PER_OBJECT && !has_objects(subsystem))
		request_reason(request, "no call of %s is known to be about an object", name);
	else if (subsystem->per_object && transaction->mode == MODE_PER_OBJECT)
		request_reason(request, "a per-object switch of %s is under way to another edition", name);
	else if (subsystem->per_object && objects_have_transfer(subsystem))
		request_reason(request, "objects of %s are being moved: mode=exclusive can end it or undo it", name);
	else
		request_reason(request, "mode %s is not safe from %s to %s, says one of them",
			       mode_name(transaction->mode), active_edition(subsystem)->def->name,
			       transaction->to->def->name);
}

static int choose_mode(struct transaction *transaction)
{
	u32 modes = modes_now(transaction);
	int mode = transaction->options->mode;

	if (mode == MODES) {
		modes &= ~DYNAMOS_SCOPED;
		mode = modes ? __ffs(modes) : MODE_CONCURRENT;
	}
	transaction->mode = mode;
	if (modes & 1U << mode)
		return 0;
	explain_mode(transaction);
	return -EOPNOTSUPP;
}

/* Return: 1 when there is nothing to do. */
/* A lease that has ended by a loss asks for the baseline, until somebody takes it, or gives it back. */
static int check_lease(const struct transaction *transaction)
{
	const struct lease *lease = transaction->options->lease;

	if (!lease || lease_is_over(lease))
		return 0;
	request_reason(transaction->request, "the lease was taken over, or given back, meanwhile");
	return -ECANCELED;
}

static int check(struct transaction *transaction, const char *edition_name)
{
	struct subsystem *subsystem = transaction->subsystem;
	struct request *request = transaction->request;
	int err;

	err = check_lease(transaction);
	if (err)
		return err;
	transaction->to = edition_find(subsystem, edition_name, request);
	if (!transaction->to)
		return -ENXIO;
	if (transaction->to->quarantine && !transaction->undoes) {
		request_reason(request, "edition %s is in quarantine (%s)", edition_name,
			       why_name(transaction->to->quarantine));
		return -ENOTRECOVERABLE;
	}
	if (!is_enabled() && transaction->to != subsystem->original && !transaction->undoes) {
		request_reason(request, "the module is switched off (parameter enable)");
		return -EPERM;
	}
	transaction->from = active_edition(subsystem);
	if (transaction->to == transaction->from) {
		if (transaction->options->mode == MODE_SCOPED) {
			request_reason(request, "edition %s is active, outside of every scope too", edition_name);
			return -EINVAL;
		}
		if (!partial_edition(subsystem))
			return 1;
		transaction->from = partial_edition(subsystem);
	}
	return choose_mode(transaction);
}

/* ------------------------------------------------------------------------------------- who can be called, and text */

/*
 * An edition that can be called keeps its module. The original's module is kept by the gates themselves. One that is
 * draining is not let go meanwhile, however long the transaction takes.
 */
static int edition_hold(struct transaction *transaction)
{
	struct edition *to = transaction->to;

	to->wanted = true;
	transaction->epoch = to->epoch;
	if (to->held || to == transaction->subsystem->original)
		return 0;
	if (!failable(try_module_get(to->def->owner), false)) {
		to->wanted = false;
		request_reason(transaction->request, "the module of edition %s is being removed", to->def->name);
		return -ENODEV;
	}
	to->held = true;
	transaction->holds = true;
	return 0;
}

/*
 * The transaction is over. What it did not make callable is as it was before. What it did, and another one has left
 * since, while the author's commit() ran, has to drain: somebody may be in it, or on the way in, without being counted.
 */
static void edition_release(struct transaction *transaction)
{
	struct edition *to = transaction->to;

	to->wanted = false;
	if (edition_can_be_called(to) || !to->held)
		return;
	if (transaction->holds && to->epoch == transaction->epoch && !edition_in_flight(to->def)) {
		to->held = false;
		module_put(to->def->owner);
		return;
	}
	edition_drain_start(to);
}

/* It was callable until now. If it is so still, the drain finds that out. */
static void leave(struct edition *edition)
{
	if (!edition)
		return;
	edition->epoch++;
	WRITE_ONCE(edition->left_ns, ktime_get_ns());
	edition_drain_start(edition);
}

/*
 * The switch. From here on a new call gets what the word says, on every CPU, in every function.
 */
static void send_gates(struct subsystem *subsystem, u32 word)
{
	/*
	 * Release: the table's slots, the route, the scope and the objects were written before. The gate's loads depend
	 * on each other, and so it sees them.
	 */
	smp_store_release(subsystem->def->active, word);
	/* Pairs with the barrier in trip_subsystem(): whichever comes second sees the other's store. */
	smp_mb();
	if (READ_ONCE(subsystem->tripped))
		WRITE_ONCE(*subsystem->def->active, subsystem->original->def->index);
}

/* All new calls get one edition. Gates that were sent to a handler or the dispatch slot are plain again. */
static void make_active(struct subsystem *subsystem, struct edition *to)
{
	struct edition *from = active_edition(subsystem), *partial = partial_edition(subsystem);
	struct scope *scope = rcu_dereference_protected(subsystem->scope, lockdep_is_held(&dynamos_lock));

	to->epoch++;
	/* No call will get what has tripped: from here on gates are sent where the word says again. */
	if (!to->quarantine)
		WRITE_ONCE(subsystem->tripped, false);
	send_gates(subsystem, to->def->index);
	rcu_assign_pointer(subsystem->active, to);
	rcu_assign_pointer(subsystem->partial, NULL);
	rcu_assign_pointer(subsystem->scope, NULL);
	WRITE_ONCE(subsystem->def->route->base, to->def->index);
	scope_retire(scope);
	if (subsystem->per_object) {
		WRITE_ONCE(subsystem->per_object, false);
		mod_delayed_work(dynamos_queue, &subsystem->migration, 0);
	}
	if (from != to)
		leave(from);
	if (partial != to)
		leave(partial);
}

/* Some new calls get one edition, the others go on with the active one. */
static void make_partial(struct subsystem *subsystem, struct edition *to, u32 word)
{
	to->epoch++;
	rcu_assign_pointer(subsystem->partial, to);
	send_gates(subsystem, word);
}

static u64 us_since(u64 start_ns)
{
	return div_u64(ktime_get_ns() - start_ns, NSEC_PER_USEC);
}

static void say_switched(const struct transaction *transaction, const char *scope)
{
	const struct edition *from = transaction->from;
	struct subsystem *subsystem = transaction->subsystem;
	const struct request *request = transaction->request;

	WRITE_ONCE(subsystem->mode, transaction->mode);
	WRITE_ONCE(subsystem->switches, subsystem->switches + 1);
	trace_switched(subsystem->def->name, from->def->index, transaction->to->def->index);
	event_emit("switched", "subsystem=%s from=%s to=%s mode=%s%s%s by=%d us=%llu",
		   subsystem->def->name, from->def->name, transaction->to->def->name,
		   mode_name(transaction->mode), scope ? " scope=" : "", scope ?: "",
		   request->by, us_since(request->start_ns));
}

static void commit(const struct transaction *transaction)
{
	lockdep_assert_held(&dynamos_lock);
	make_active(transaction->subsystem, transaction->to);
	say_switched(transaction, NULL);
}

static int give_up(const struct transaction *transaction)
{
	request_reason(transaction->request, "given up for a switch to the original");
	return -ECANCELED;
}

/* To be asked, with dynamos_lock held, before each change of the gates: time has passed since the last one. */
static int still_wanted(const struct transaction *transaction)
{
	const struct subsystem *subsystem = transaction->subsystem;
	const struct edition *to = transaction->to;

	if (to->quarantine && !transaction->undoes) {
		request_reason(transaction->request, "edition %s was put in quarantine meanwhile (%s)", to->def->name,
			       why_name(to->quarantine));
		return -ECANCELED;
	}
	if (transaction->overtaken != subsystem->overtaken)
		return give_up(transaction);
	return check_lease(transaction);
}

/* --------------------------------------------------------------------------------------------------- concurrent */

static int switch_concurrent(struct transaction *transaction)
{
	int err;

	mutex_lock(&dynamos_lock);
	err = still_wanted(transaction);
	if (!err)
		commit(transaction);
	mutex_unlock(&dynamos_lock);
	return err;
}

/* ---------------------------------------------------------------------------------------------------- exclusive */

static bool has_transfer(const struct transaction *transaction)
{
	return transaction->from->def->traits->transfer || transaction->to->def->traits->transfer;
}

/* What was done is undone. Nobody is in any function of the subsystem. */
static int transfer_all(const struct transaction *transaction)
{
	int err;

	err = author_call(transaction->from, CALLBACK_OUT_OF);
	if (!err) {
		err = author_call(transaction->to, CALLBACK_INTO);
		if (err)
			author_call(transaction->from, CALLBACK_INTO);
	}
	if (!err)
		return 0;
	request_reason(transaction->request, "the data could not be moved to edition %s: error %d",
		       transaction->to->def->name, -err);
	return -ECANCELED;
}

/* Threads that came before the gates are on no counter: look again, ever less often. */
struct relook {
	unsigned long next;		/* jiffies */
	unsigned int ms;
};

static void relook(struct subsystem *subsystem, struct relook *state)
{
	struct look *look;

	if (!subsystem->before_gate && !subsystem->unreliable)
		return;
	if (state->ms && time_before(jiffies, state->next))
		return;
	look = look_inside(subsystem);
	if (look)
		look_remember(subsystem, look);
	kfree(look);
	state->ms = clamp_t(unsigned int, state->ms * 2, RELOOK_MIN_MS, RELOOK_MAX_MS);
	state->next = jiffies + msecs_to_jiffies(state->ms);
}

static int not_yet(struct transaction *transaction, unsigned long deadline)
{
	const struct dynamos_function *unfit = READ_ONCE(transaction->subsystem->unfit);

	if (unfit) {
		request_reason(transaction->request, "%s was called where sleeping is not allowed", unfit->name);
		return -EOPNOTSUPP;
	}
	if (time_after_eq(jiffies, deadline))
		return -ETIMEDOUT;
	if (signal_pending(current)) {
		request_reason(transaction->request, "interrupted by a signal while callers left");
		return -EINTR;
	}
	if (!transaction->urgent && atomic_read(&transaction->subsystem->urgent))
		return give_up(transaction);
	return 0;
}

/* Return: true when nobody is inside and nobody can get in. Without data to move, the switch is made at once. */
static bool close_gate(struct transaction *transaction, struct relook *state)
{
	lockdep_assert_held(&dynamos_lock);
	relook(transaction->subsystem, state);
	if (!pass_close(transaction->subsystem))
		return false;
	if (!has_transfer(transaction))
		commit(transaction);
	return true;
}

static int wait_until_closed(struct transaction *transaction)
{
	unsigned long deadline = jiffies + msecs_to_jiffies(transaction->options->timeout_ms);
	struct relook state = { .ms = 0 };
	bool closed;
	int err;

	for (;;) {
		mutex_lock(&dynamos_lock);
		err = still_wanted(transaction);
		closed = !err && close_gate(transaction, &state);
		mutex_unlock(&dynamos_lock);
		if (closed)
			return 0;
		err = err ?: not_yet(transaction, deadline);
		if (err)
			return err;
		usleep_range(200, 500);
	}
}

/* Before callers are let go: who is in the way is still there. */
static struct look *find_blockers(struct transaction *transaction)
{
	struct look *look;
	char who[64];

	mutex_lock(&dynamos_lock);
	look = look_inside(transaction->subsystem);
	if (look) {
		look_describe(look, who, sizeof(who));
		look_remember(transaction->subsystem, look);
	}
	mutex_unlock(&dynamos_lock);
	request_reason(transaction->request, "still inside after %u ms: %s", transaction->options->timeout_ms,
		       look ? who : "somebody; no memory to see who");
	return look;
}

static void report_blockers(struct subsystem *subsystem, struct look *look)
{
	if (!look)
		return;
	mutex_lock(&dynamos_lock);
	look_report(subsystem, look);
	mutex_unlock(&dynamos_lock);
	kfree(look);
}

/* Closed: the editions' own code runs, without dynamos_lock. */
static int transfer_and_commit(struct transaction *transaction)
{
	int err;

	err = transfer_all(transaction);
	if (err)
		return err;
	mutex_lock(&dynamos_lock);
	commit(transaction);
	mutex_unlock(&dynamos_lock);
	return 0;
}

/* While all callers come through the dispatch slot, and new ones are held. */
static int switch_while_held(struct transaction *transaction)
{
	struct subsystem *subsystem = transaction->subsystem;
	struct look *look = NULL;
	int err;

	pass_hold(subsystem, transaction->options->timeout_ms);
	err = wait_until_closed(transaction);
	if (err == -ETIMEDOUT)
		look = find_blockers(transaction);
	if (!err && has_transfer(transaction))
		err = transfer_and_commit(transaction);
	pass_release(subsystem);
	report_blockers(subsystem, look);
	return err;
}

/*
 * First all calls are sent through the dispatch slot, and whoever was on the way past it is waited for; nobody is held
 * for that. From then on a caller is counted before it looks whether it may go on, and callers are held for just as
 * long as those inside take to leave.
 */
static int switch_exclusive(struct transaction *transaction)
{
	struct subsystem *subsystem = transaction->subsystem;
	u32 before;
	int err;

	mutex_lock(&dynamos_lock);
	err = still_wanted(transaction);
	before = *subsystem->def->active;
	if (!err)
		send_gates(subsystem, DYNAMOS_SLOT_DISPATCH);
	mutex_unlock(&dynamos_lock);
	if (err)
		return err;
	wait_for_text();

	err = switch_while_held(transaction);
	if (err) {
		mutex_lock(&dynamos_lock);
		send_gates(subsystem, before);
		mutex_unlock(&dynamos_lock);
	}
	return err;
}

/* --------------------------------------------------------------------------------------- scoped and per-object */

/* The partial edition that way was made from; it may be unloaded any time. */
struct dropped {
	char name[DYNAMOS_NAME_MAX + 1];	/* "": there was none */
	u32 index;
};

/*
 * Whoever is still on the way by an earlier route must not be led by the next one before the switch: so all is plain,
 * and nobody on the way, before the route is written. Afterwards the active edition is as it was, and no partial one
 * unless it is @keep.
 */
static void make_way(struct subsystem *subsystem, const struct edition *keep, struct dropped *dropped)
{
	struct edition *partial;

	dropped->name[0] = '\0';
	mutex_lock(&dynamos_lock);
	partial = partial_edition(subsystem);
	if (partial && (subsystem->per_object || partial != keep)) {
		strscpy(dropped->name, partial->def->name, sizeof(dropped->name));
		dropped->index = partial->def->index;
		make_active(subsystem, active_edition(subsystem));
	}
	mutex_unlock(&dynamos_lock);
	wait_for_text();
}

/* The switch that way was made for is refused. What was partial is not any more, and that was a switch. */
static void say_dropped(struct subsystem *subsystem, const struct dropped *dropped)
{
	const struct edition *active = active_edition(subsystem);

	if (!*dropped->name)
		return;
	WRITE_ONCE(subsystem->mode, MODE_CONCURRENT);
	WRITE_ONCE(subsystem->switches, subsystem->switches + 1);
	trace_switched(subsystem->def->name, dropped->index, active->def->index);
	event_emit("switched", "subsystem=%s from=%s to=%s mode=%s by=0 us=0", subsystem->def->name, dropped->name,
		   active->def->name, mode_name(MODE_CONCURRENT));
}

static void enter_scope(struct transaction *transaction, struct scope *scope)
{
	struct subsystem *subsystem = transaction->subsystem;
	struct scope *old;

	old = rcu_dereference_protected(subsystem->scope, lockdep_is_held(&dynamos_lock));
	scope_enter(scope, subsystem, active_edition(subsystem)->def->index, transaction->to->def->index);
	rcu_assign_pointer(subsystem->scope, scope);
	make_partial(subsystem, transaction->to, scope_slot(scope));
	scope_retire(old);
	say_switched(transaction, scope_text(scope));
}

static struct scope *make_scope(struct transaction *transaction)
{
	struct scope *scope;

	if (!transaction->options->scope) {
		request_reason(transaction->request, "mode scoped needs a scope=");
		return ERR_PTR(-EINVAL);
	}
	mutex_lock(&dynamos_lock);
	scope = scope_create(transaction->options->scope, transaction->to, transaction->request);
	mutex_unlock(&dynamos_lock);
	return scope;
}

static int switch_scoped(struct transaction *transaction)
{
	struct scope *scope = make_scope(transaction);
	struct dropped dropped;
	int err;

	if (IS_ERR(scope))
		return PTR_ERR(scope);
	make_way(transaction->subsystem, transaction->to, &dropped);
	mutex_lock(&dynamos_lock);
	err = still_wanted(transaction);
	if (err) {
		scope_retire(scope);
		say_dropped(transaction->subsystem, &dropped);
	} else {
		enter_scope(transaction, scope);
	}
	mutex_unlock(&dynamos_lock);
	return err;
}

static void enter_per_object(struct transaction *transaction)
{
	struct subsystem *subsystem = transaction->subsystem;

	objects_end(subsystem);
	objects_begin(subsystem, active_edition(subsystem), transaction->to, transaction->options->keep);
	subsystem->migration_ns = transaction->request->start_ns;
	subsystem->migration_wait = 0;
	WRITE_ONCE(subsystem->per_object, true);
	make_partial(subsystem, transaction->to, DYNAMOS_SLOT_DISPATCH);
	say_switched(transaction, NULL);
	mod_delayed_work(dynamos_queue, &subsystem->migration, 0);
}

static int switch_per_object(struct transaction *transaction)
{
	struct subsystem *subsystem = transaction->subsystem;
	struct dropped dropped;
	int err;

	mutex_lock(&dynamos_lock);
	if (subsystem->per_object && partial_edition(subsystem) == transaction->to) {
		/* It is under way already; only what becomes of existing objects can be new. */
		objects_keep(subsystem, transaction->options->keep);
		mod_delayed_work(dynamos_queue, &subsystem->migration, 0);
		mutex_unlock(&dynamos_lock);
		return 0;
	}
	err = objects_prepare(subsystem);
	mutex_unlock(&dynamos_lock);
	if (err)
		return err;
	make_way(subsystem, NULL, &dropped);
	mutex_lock(&dynamos_lock);
	err = still_wanted(transaction);
	if (err)
		say_dropped(subsystem, &dropped);
	else
		enter_per_object(transaction);
	mutex_unlock(&dynamos_lock);
	return err;
}

/* -------------------------------------------------------------------------------- what a per-object switch leaves */

#define MIGRATION_MIN (HZ / 20)
#define MIGRATION_MAX (5 * HZ)

/* Is nobody left inside who did not come through the dispatch slot? */
static bool nobody_is_unrecorded(struct subsystem *subsystem)
{
	struct look *look;
	bool none;

	if (editions_are_quiet(subsystem))
		return true;
	look = look_inside(subsystem);
	if (!look)
		return false;
	look_remember(subsystem, look);
	none = !look->unpassed && !look->strangers && !look->before_gate && !look->unreliable;
	kfree(look);
	return none;
}

static void complete_migration(struct subsystem *subsystem)
{
	struct edition *to = partial_edition(subsystem);
	u64 start_ns = subsystem->migration_ns;

	make_active(subsystem, to);
	event_emit("completed", "subsystem=%s edition=%s us=%llu", subsystem->def->name, to->def->name,
		   us_since(start_ns));
}

/* Return: true when there is nothing more to look for. What goes on by itself then is told by no look. */
static bool migrate(struct subsystem *subsystem)
{
	if (!subsystem->per_object)
		return true;
	if (!objects_are_settled(subsystem) && nobody_is_unrecorded(subsystem))
		objects_settle(subsystem);
	if (objects_are_migrated(subsystem)) {
		complete_migration(subsystem);
		return true;
	}
	return objects_are_settled(subsystem) && objects_cannot_complete(subsystem);
}

static void migration_work(struct work_struct *work)
{
	struct subsystem *subsystem = container_of(to_delayed_work(work), struct subsystem, migration);
	bool over = false;

	/* Whoever was past the dispatch slot is inside, and counted, afterwards. */
	wait_for_text();
	/* A transaction that is under way decides first; it may take long. */
	if (mutex_trylock(&subsystem->switching)) {
		mutex_lock(&dynamos_lock);
		over = migrate(subsystem);
		if (!subsystem->per_object && subsystem->objects)
			objects_end(subsystem);
		mutex_unlock(&dynamos_lock);
		mutex_unlock(&subsystem->switching);
	}
	if (over)
		return;
	subsystem->migration_wait = clamp_t(unsigned long, subsystem->migration_wait * 2, MIGRATION_MIN, MIGRATION_MAX);
	queue_delayed_work(dynamos_queue, &subsystem->migration, subsystem->migration_wait);
}

void migration_init(struct subsystem *subsystem)
{
	INIT_DELAYED_WORK(&subsystem->migration, migration_work);
}

/* --------------------------------------------------------------------------------------------- one transaction */

static int prepare(const struct transaction *transaction)
{
	int err;

	err = author_call(transaction->to, CALLBACK_PREPARE);
	if (!err)
		return 0;
	request_reason(transaction->request, "edition %s is not ready: error %d", transaction->to->def->name, -err);
	return -ECANCELED;
}

static int perform(struct transaction *transaction)
{
	static int (*const modes[])(struct transaction *transaction) = {
		switch_concurrent, switch_exclusive, switch_per_object, switch_scoped,
	};
	int err;

	err = prepare(transaction);
	if (err)
		return err;
	err = modes[transaction->mode](transaction);
	author_call(transaction->to, err ? CALLBACK_ABORT : CALLBACK_COMMIT);
	return err;
}

static int switch_once(struct transaction *transaction, const char *edition_name)
{
	int err;

	lockdep_assert_held(&transaction->subsystem->switching);
	mutex_lock(&dynamos_lock);
	transaction->overtaken = transaction->subsystem->overtaken;
	err = check(transaction, edition_name);
	if (!err)
		err = edition_hold(transaction);
	mutex_unlock(&dynamos_lock);
	if (err)
		return err > 0 ? 0 : err;

	err = perform(transaction);
	mutex_lock(&dynamos_lock);
	edition_release(transaction);
	mutex_unlock(&dynamos_lock);
	return err;
}

/* Data of objects is half-way between two editions. Return: the one that it came from, if neither is the original. */
static const struct edition *moved_from(const struct subsystem *subsystem)
{
	const struct edition *active = active_edition(subsystem);

	if (!subsystem->per_object || !objects_have_transfer(subsystem))
		return NULL;
	return active == subsystem->original || partial_edition(subsystem) == subsystem->original ? NULL : active;
}

/* On the way to the original in any mode, what is being moved between two others is moved back first. */
static int undo_moves(const struct transaction *transaction)
{
	const struct switch_options options = {
		.mode = MODE_EXCLUSIVE,
		.timeout_ms = transaction->options->timeout_ms,
		.lease = transaction->options->lease,
	};
	struct transaction undo = *transaction;
	char name[DYNAMOS_NAME_MAX + 1] = "";
	const struct edition *edition;

	mutex_lock(&dynamos_lock);
	edition = moved_from(transaction->subsystem);
	if (edition)
		strscpy(name, edition->def->name, sizeof(name));
	mutex_unlock(&dynamos_lock);
	if (!*name)
		return 0;
	undo.options = &options;
	undo.undoes = true;
	return switch_once(&undo, name);
}

static int switch_locked(struct transaction *transaction, const char *edition_name)
{
	int err = 0;

	if (transaction->urgent && transaction->options->mode == MODES)
		err = undo_moves(transaction);
	return err ?: switch_once(transaction, edition_name);
}

#define OVERTAKE_POLL_MS 10

/* While another transaction waits for its author. Return: 0 not possible now; 1 done; an errno. */
static int overtake_author(struct transaction *transaction, const char *edition_name)
{
	struct subsystem *subsystem = transaction->subsystem;
	int done = 0;

	mutex_lock(&dynamos_lock);
	if (subsystem->in_author && !moved_from(subsystem))
		done = check(transaction, edition_name);
	if (subsystem->in_author && !done && !moved_from(subsystem) && transaction->mode == MODE_CONCURRENT) {
		commit(transaction);
		done = 1;
	}
	/* Also when the original is active still: what the author prepares for is not wanted any more. */
	if (done == 1)
		subsystem->overtaken++;
	mutex_unlock(&dynamos_lock);
	return done;
}

/* A switch to the original: one that is under way is asked to give up. Return: 0 it is its turn; 1 done; an errno. */
static int overtake(struct transaction *transaction, const char *edition_name)
{
	struct subsystem *subsystem = transaction->subsystem;
	int done = 0;

	atomic_inc(&subsystem->urgent);
	while (!mutex_trylock(&subsystem->switching)) {
		done = overtake_author(transaction, edition_name);
		if (!done && msleep_interruptible(OVERTAKE_POLL_MS))
			done = -EINTR;
		if (done)
			break;
	}
	atomic_dec(&subsystem->urgent);
	return done;
}

static int take_turn(struct transaction *transaction, const char *edition_name)
{
	int done;

	if (transaction->urgent)
		done = overtake(transaction, edition_name);
	else
		done = mutex_lock_interruptible(&transaction->subsystem->switching);
	if (done == -EINTR)
		request_reason(transaction->request, "interrupted by a signal while waiting for its turn");
	return done;
}

static bool is_urgent(const struct switch_options *options, const char *edition_name)
{
	return (options->mode == MODES || options->mode == MODE_CONCURRENT) && !strcmp(edition_name, "original");
}

/* Until subsystem_unpin(), its module stays, and so does it. */
static struct subsystem *subsystem_pin(const char *name, struct request *request)
{
	struct subsystem *subsystem;

	mutex_lock(&dynamos_lock);
	subsystem = subsystem_find(name, request);
	if (subsystem && !failable(try_module_get(subsystem->def->owner), false)) {
		request_reason(request, "the module of subsystem %s is being removed", name);
		subsystem = NULL;
	}
	mutex_unlock(&dynamos_lock);
	return subsystem;
}

static void subsystem_unpin(struct subsystem *subsystem)
{
	module_put(subsystem->def->owner);
}

/**
 * switch_edition() - make an edition the active one, or the partial one
 * @subsystem_name: name of the subsystem
 * @edition_name: name of the edition
 * @options: how
 * @request: who asks; gets the sentence when the answer is no
 *
 * Return: 0 also when it is active already; an errno as docs/abi.md says. On failure nothing has changed.
 */
int switch_edition(const char *subsystem_name, const char *edition_name, const struct switch_options *options,
		   struct request *request)
{
	struct transaction transaction = {
		.options = options,
		.request = request,
		.urgent = is_urgent(options, edition_name),
	};
	int err;

	transaction.subsystem = subsystem_pin(subsystem_name, request);
	if (!transaction.subsystem)
		return -ENOENT;
	err = take_turn(&transaction, edition_name);
	if (!err) {
		err = switch_locked(&transaction, edition_name);
		mutex_unlock(&transaction.subsystem->switching);
	}
	subsystem_unpin(transaction.subsystem);
	return err > 0 ? 0 : err;
}

#define UNASKED_TIMEOUT_MS 1000

/**
 * switch_unasked() - a switch that no command asks for; if it is refused, an event says so
 * @subsystem: name of the subsystem
 * @edition: name of the edition
 * @by: whose doing it is; 0: the module's own
 * @lease: the lease that was lost, if that is why: it is given up when that is no longer so; else NULL
 *
 * Return: as switch_edition().
 */
int switch_unasked(const char *subsystem, const char *edition, pid_t by, const struct lease *lease)
{
	struct switch_options options = { .mode = MODES, .timeout_ms = UNASKED_TIMEOUT_MS, .lease = lease };
	struct request request = { .by = by, .start_ns = ktime_get_ns() };
	int err;

	err = switch_edition(subsystem, edition, &options, &request);
	if (err)
		event_refused(&request, err, "switch %s %s", subsystem, edition);
	return err;
}

/**
 * name_insiders() - one event for each thread that is in one of a subsystem's functions
 * @subsystem_name: name of the subsystem
 * @request: who asks; gets the sentence when the answer is no
 *
 * Return: 0; -ENOENT, -ENODEV (no gate is installed: nothing is watched), -ENOMEM.
 */
int name_insiders(const char *subsystem_name, struct request *request)
{
	struct subsystem *subsystem;
	struct look *look = NULL;
	int err = -ENODEV;

	mutex_lock(&dynamos_lock);
	subsystem = subsystem_find(subsystem_name, request);
	if (!subsystem) {
		err = -ENOENT;
	} else if (!subsystem->gated) {
		request_reason(request, "%s has no edition to switch to, and so no gate", subsystem_name);
	} else {
		look = look_inside(subsystem);
		err = look ? 0 : -ENOMEM;
	}
	if (look) {
		look_remember(subsystem, look);
		look_report(subsystem, look);
	}
	mutex_unlock(&dynamos_lock);
	kfree(look);
	return err;
}
