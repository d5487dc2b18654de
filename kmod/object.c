// SPDX-License-Identifier: GPL-2.0
/*
 * object.c - mode per-object: which edition an object has
 *
 * From the switch on, all calls come through the dispatch slot, with the object they are about. What is kept in mind of
 * an object is a record, and only where nothing simpler tells:
 *
 *	no record, unsettled	an old object: the old edition
 *	no record, settled	nobody is in a call about it (or it would have one): the new edition, at once if no data
 *				has to be moved
 *	record, old edition	as many calls about it as `calls` says are in the old edition
 *	record, new edition	born in it, or moved to it
 *
 * "Settled" is reached when nobody is left of those who came in without being recorded: before the switch, or before
 * the gates. Until then any old object may have one of them inside; and if existing objects are to keep their edition,
 * it is never reached. Objects that are born in the new edition have it from the first moment.
 *
 * A call about an old object that cannot be recorded, for want of memory, is counted, and no object is at rest until it
 * is over.
 *
 * An object is moved by the first call about it that finds it at rest, before that call goes on. Other calls about the
 * same object wait meanwhile.
 */
#include <linux/hash.h>
#include <linux/list.h>
#include <linux/rcupdate.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "core.h"

#define BUCKET_BITS 10

/* In place of a record, where there was no memory for one. */
#define UNRECORDED ((struct record *)1)

struct record {
	struct hlist_node node;
	void *object;
	u32 session;			/* of the switch that `index` belongs to; in later ones only `calls` counts */
	u32 index;			/* of the edition it has */
	unsigned int calls;		/* about it, in the old edition */
	struct task_struct *mover;	/* moves it now, and will wake the others; has a reference; NULL: nobody */
};

struct bucket {
	spinlock_t lock;		/* of everything in it; taken with interrupts off, nothing inside */
	struct hlist_head records;
};

struct objects {
	/* Written by a switch with dynamos_lock, before calls are sent here or while none can read them. */
	u32 old, new;
	int (*leave)(void *object, enum dynamos_transfer direction);	/* the old edition's; may be NULL */
	int (*enter)(void *object, enum dynamos_transfer direction);	/* the new one's */
	bool keep;
	bool may_sleep;

	u32 session;			/* which per-object switch of this subsystem it is, from 1 on */
	atomic64_t passes;		/* the session's number in the upper half, its passes in flight in the lower */

	bool settled;			/* set by the switch's work */
	atomic_t unrecorded;		/* calls like that, now */
	atomic_t count;			/* of records */
	atomic_t old_calls;		/* recorded calls in the old edition */
	struct bucket buckets[1 << BUCKET_BITS];
};

static struct bucket *bucket_of(struct objects *objects, const void *object)
{
	return &objects->buckets[hash_ptr(object, BUCKET_BITS)];
}

static struct record *record_find(const struct bucket *bucket, const void *object)
{
	struct record *record;

	hlist_for_each_entry(record, &bucket->records, node)
		if (record->object == object)
			return record;
	return NULL;
}

/* In any context; fails without memory. */
static struct record *record_new(gfp_t gfp)
{
	return failable(kzalloc(sizeof(struct record), gfp | __GFP_NOWARN), NULL);
}

/* Caller holds the bucket's lock. */
static void record_add(struct objects *objects, struct bucket *bucket, struct record *record, void *object, u32 index)
{
	record->object = object;
	record->index = index;
	record->session = objects->session;
	hlist_add_head(&record->node, &bucket->records);
	atomic_inc(&objects->count);
}

/* Whether it is in its bucket or not. */
static void record_remove(struct objects *objects, struct record *record)
{
	hlist_del_init(&record->node);
	atomic_dec(&objects->count);
	if (record->mover)
		put_task_struct(record->mover);
	kfree(record);
}

/* Who died while it moved an object has left it between two layouts: nobody is to touch that again. */
static bool is_broken(const struct record *record)
{
	return record->mover && READ_ONCE(record->mover->flags) & PF_EXITING;
}

static bool is_being_moved(const struct record *record)
{
	return record->mover && !is_broken(record);
}

/* -------------------------------------------------------------------------------------------------- moving one */

static int transfer(const struct objects *objects, void *object)
{
	int err;

	err = objects->leave ? failable(objects->leave(object, DYNAMOS_OUT_OF), -ENOMEM) : 0;
	if (err)
		return err;
	err = objects->enter ? failable(objects->enter(object, DYNAMOS_INTO), -ENOMEM) : 0;
	if (err && objects->leave)
		objects->leave(object, DYNAMOS_INTO);
	return err;
}

static bool has_transfer(const struct objects *objects)
{
	return objects->leave || objects->enter;
}

/*
 * Nobody is in a call about the object, and none can begin: its record says that it is being moved. Without sleeping if
 * that is not allowed; then the bucket stays locked, and the others spin on it.
 */
static bool move(struct objects *objects, struct bucket *bucket, struct record *record, unsigned long *flags)
	__must_hold(&bucket->lock)
{
	int err;

	record->mover = get_task_struct(current);
	if (objects->may_sleep) {
		spin_unlock_irqrestore(&bucket->lock, *flags);
		err = transfer(objects, record->object);
		spin_lock_irqsave(&bucket->lock, *flags);
	} else {
		err = transfer(objects, record->object);
	}
	put_task_struct(record->mover);
	record->mover = NULL;
	if (!err) {
		record->session = objects->session;
		record->index = objects->new;
	}
	return !err;
}

static bool is_moving(struct objects *objects, void *object)
{
	struct bucket *bucket = bucket_of(objects, object);
	struct record *record;
	unsigned long flags;
	bool moving;

	spin_lock_irqsave(&bucket->lock, flags);
	record = record_find(bucket, object);
	moving = record && is_being_moved(record);
	spin_unlock_irqrestore(&bucket->lock, flags);
	return moving;
}

/* -------------------------------------------------------------------------------------------------------- calls */

/* A call about it begins in the old edition. */
static void old_call(struct objects *objects, struct dynamos_pass *pass, struct record *record)
{
	record->calls++;
	atomic_inc(&objects->old_calls);
	pass->record = record;
}

/*
 * The same, without a record: as long as it is inside, no object is at rest. Another call about the same object sees
 * it, for both hold the bucket's lock.
 */
static void old_call_unrecorded(struct objects *objects, struct dynamos_pass *pass)
{
	pass->record = UNRECORDED;
	atomic_inc(&objects->unrecorded);
}

/* May this call move an object? It may have to sleep for that. Asked with no lock held: under one nobody may. */
static bool may_move_here(const struct objects *objects)
{
	return !has_transfer(objects) || !objects->may_sleep || may_sleep_here();
}

static bool is_at_rest(const struct objects *objects, const struct record *record)
{
	if (!READ_ONCE(objects->settled) || atomic_read(&objects->unrecorded))
		return false;
	return !record || (!record->calls && !is_broken(record));
}

/* An object that has not got the new edition yet. Caller holds the bucket's lock. Return: the edition's number. */
static u32 pick_old(struct subsystem *subsystem, struct dynamos_pass *pass, struct bucket *bucket,
		    struct record *record, bool may_move, bool *moved, unsigned long *flags)
{
	struct objects *objects = subsystem->objects;
	bool at_rest = may_move && is_at_rest(objects, record);

	if (at_rest && !record && !has_transfer(objects))
		return objects->new;
	if (!record) {
		record = record_new(GFP_ATOMIC);
		if (!record) {
			old_call_unrecorded(objects, pass);
			return objects->old;
		}
		record_add(objects, bucket, record, pass->object, objects->old);
	}
	if (at_rest) {
		*moved = objects->may_sleep;
		if (move(objects, bucket, record, flags))
			return objects->new;
	}
	old_call(objects, pass, record);
	return objects->old;
}

static bool has_new(const struct objects *objects, const struct record *record)
{
	return record && record->session == objects->session && record->index == objects->new;
}

/*
 * The call ends its object: nobody else makes calls about it any more. Another object may be born at its address before
 * this call has returned, so that its record must not be found any more; if the call needs it, object_leave() frees it.
 * Caller holds the bucket's lock.
 */
static void forget(struct objects *objects, struct bucket *bucket, const void *object)
{
	struct record *record = record_find(bucket, object);

	if (!record)
		return;
	if (record->calls)
		hlist_del_init(&record->node);
	else
		record_remove(objects, record);
}

/* Return: the edition's number, or DYNAMOS_MAX_EDITIONS: it is being moved, come again. */
static u32 try_pick(struct subsystem *subsystem, struct dynamos_pass *pass)
{
	struct objects *objects = subsystem->objects;
	struct bucket *bucket = bucket_of(objects, pass->object);
	bool may_move = may_move_here(objects);
	struct record *record;
	unsigned long flags;
	bool moved = false;
	u32 index;

	spin_lock_irqsave(&bucket->lock, flags);
	record = record_find(bucket, pass->object);
	if (record && is_being_moved(record))
		index = DYNAMOS_MAX_EDITIONS;
	else if (has_new(objects, record))
		index = objects->new;
	else
		index = pick_old(subsystem, pass, bucket, record, may_move, &moved, &flags);
	if (index < DYNAMOS_MAX_EDITIONS && pass->function->traits->role == DYNAMOS_DEATH)
		forget(objects, bucket, pass->object);
	spin_unlock_irqrestore(&bucket->lock, flags);
	/* Others may have waited for this call to move it. */
	if (moved)
		wake_up_all(&subsystem->gate_queue);
	return index;
}

/*
 * The record is made before the object: one that is born in the new edition must not be taken for an old one. Without
 * sleeping: until it is counted in there, nothing else keeps the edition that this call is sent to.
 */
static u32 pick_birth(struct objects *objects, struct dynamos_pass *pass)
{
	pass->record = record_new(GFP_ATOMIC);
	return pass->record ? objects->new : objects->old;
}

/* A pass is of the session that decided about it; nothing sleeps in between, so that this is still the same. */
static void count_pass(struct objects *objects, struct dynamos_pass *pass)
{
	pass->session = atomic64_inc_return(&objects->passes) >> 32;
}

static void uncount_pass(struct objects *objects, const struct dynamos_pass *pass)
{
	s64 passes = atomic64_read(&objects->passes);

	while (pass->session == passes >> 32 && !atomic64_try_cmpxchg(&objects->passes, &passes, passes - 1))
		;
}

/* Passes in flight that were decided about by the switch that is under way. While nobody moves, an exact number. */
unsigned int objects_passes(const struct subsystem *subsystem)
{
	return subsystem->objects ? (u32)atomic64_read(&subsystem->objects->passes) : 0;
}

static u32 pick_by_object(struct subsystem *subsystem, struct dynamos_pass *pass)
{
	struct objects *objects = subsystem->objects;
	u32 index;

	for (;;) {
		index = try_pick(subsystem, pass);
		if (index < DYNAMOS_MAX_EDITIONS)
			return index;
		atomic_inc(&subsystem->held);
		/* Who dies wakes nobody. */
		wait_event_timeout(subsystem->gate_queue, !is_moving(objects, pass->object), HZ);
		atomic_dec(&subsystem->held);
	}
}

/**
 * object_pick() - which edition a call gets by the object that it is about
 * @subsystem: in mode per-object
 * @pass: the call; gets its record, if it has one
 *
 * Context: that of the call; waits, for another call's transfer, only where callers may.
 */
u32 object_pick(struct subsystem *subsystem, struct dynamos_pass *pass)
{
	struct objects *objects = subsystem->objects;
	u32 index;

	if (pass->function->traits->role == DYNAMOS_BIRTH)
		index = pick_birth(objects, pass);
	else if (!pass->object)
		index = objects->old;
	else
		index = pick_by_object(subsystem, pass);
	count_pass(objects, pass);
	return index;
}

/* The call that object_pick() decided about has returned. */
void object_done(struct subsystem *subsystem, const struct dynamos_pass *pass)
{
	uncount_pass(subsystem->objects, pass);
}

/* A call that object_pick() gave a record, and that was no birth, has returned. */
void object_leave(struct subsystem *subsystem, struct dynamos_pass *pass)
{
	struct objects *objects = subsystem->objects;
	struct record *record = pass->record;
	struct bucket *bucket;
	unsigned long flags;

	if (record == UNRECORDED) {
		atomic_dec(&objects->unrecorded);
		return;
	}
	bucket = bucket_of(objects, record->object);
	spin_lock_irqsave(&bucket->lock, flags);
	atomic_dec(&objects->old_calls);
	if (!--record->calls)
		record_remove(objects, record);
	spin_unlock_irqrestore(&bucket->lock, flags);
}

/* A birth that object_pick() gave a record has returned; @object is NULL if it came to nothing. */
void object_born(struct subsystem *subsystem, struct dynamos_pass *pass, void *object)
{
	struct objects *objects = subsystem->objects;
	struct record *record = pass->record;
	struct bucket *bucket;
	unsigned long flags;

	if (object) {
		bucket = bucket_of(objects, object);
		spin_lock_irqsave(&bucket->lock, flags);
		forget(objects, bucket, object);
		if (READ_ONCE(subsystem->per_object) && !record_find(bucket, object)) {
			record_add(objects, bucket, record, object, pass->index);
			record = NULL;
		}
		spin_unlock_irqrestore(&bucket->lock, flags);
	}
	kfree(record);
}

/* --------------------------------------------------------------------------------------------------- the switch */

int objects_prepare(struct subsystem *subsystem)
{
	struct objects *objects = subsystem->objects;
	int i;

	lockdep_assert_held(&dynamos_lock);
	if (objects)
		return 0;
	objects = failable(kvzalloc(sizeof(*objects), GFP_KERNEL), NULL);
	if (!objects)
		return -ENOMEM;
	for (i = 0; i < ARRAY_SIZE(objects->buckets); i++)
		spin_lock_init(&objects->buckets[i].lock);
	subsystem->objects = objects;
	return 0;
}

/* Nobody is in the dispatch slot for the mode per-object, and calls are not sent there yet. */
void objects_begin(struct subsystem *subsystem, struct edition *from, struct edition *to, bool keep)
{
	struct objects *objects = subsystem->objects;

	lockdep_assert_held(&dynamos_lock);
	objects->old = from->def->index;
	objects->new = to->def->index;
	objects->leave = from->def->traits->transfer;
	objects->enter = to->def->traits->transfer;
	objects->keep = keep;
	objects->may_sleep = subsystem->def->traits->may_sleep;
	objects->settled = false;
	objects->session++;
	atomic64_set(&objects->passes, (s64)objects->session << 32);
}

void objects_keep(struct subsystem *subsystem, bool keep)
{
	lockdep_assert_held(&dynamos_lock);
	subsystem->objects->keep = keep;
	/* Where nothing is to be moved, those that have changed are not on record, and must not go back. */
	if (keep && has_transfer(subsystem->objects))
		WRITE_ONCE(subsystem->objects->settled, false);
}

/* Is it known already that nobody is inside unrecorded? */
bool objects_are_settled(const struct subsystem *subsystem)
{
	return READ_ONCE(subsystem->objects->settled) || subsystem->objects->keep;
}

/* Nobody is left who came in before calls were sent here. */
void objects_settle(struct subsystem *subsystem)
{
	struct objects *objects = subsystem->objects;

	lockdep_assert_held(&dynamos_lock);
	WRITE_ONCE(objects->settled, true);
}

/* May the mode be left only by an exclusive switch, which moves all that is left? */
bool objects_have_transfer(const struct subsystem *subsystem)
{
	return has_transfer(subsystem->objects);
}

/* Every object has the new edition, or would at its next call, and nothing is left to be moved by that. */
bool objects_are_migrated(struct subsystem *subsystem)
{
	struct objects *objects = subsystem->objects;

	return READ_ONCE(objects->settled) && !has_transfer(objects) && !atomic_read(&objects->unrecorded) &&
	       !atomic_read(&objects->old_calls);
}

/* Objects that keep their edition until they die, or that have data to move, may be there unseen. */
bool objects_cannot_complete(const struct subsystem *subsystem)
{
	return subsystem->objects->keep || has_transfer(subsystem->objects);
}

unsigned int objects_count(const struct subsystem *subsystem)
{
	const struct objects *objects = READ_ONCE(subsystem->objects);

	return objects ? atomic_read(&objects->count) : 0;
}

/* Calls are sent elsewhere since a grace period. Those still inside keep their records, and remove them. */
void objects_end(struct subsystem *subsystem)
{
	struct objects *objects = subsystem->objects;
	struct record *record;
	struct hlist_node *next;
	unsigned long flags;
	int i;

	if (!objects)
		return;
	for (i = 0; i < ARRAY_SIZE(objects->buckets); i++) {
		spin_lock_irqsave(&objects->buckets[i].lock, flags);
		hlist_for_each_entry_safe(record, next, &objects->buckets[i].records, node)
			if (!record->calls && !is_being_moved(record))
				record_remove(objects, record);
		spin_unlock_irqrestore(&objects->buckets[i].lock, flags);
	}
}

/* Those of threads that died inside are left. */
static void records_free(struct objects *objects)
{
	struct record *record;
	struct hlist_node *next;
	int i;

	for (i = 0; i < ARRAY_SIZE(objects->buckets); i++)
		hlist_for_each_entry_safe(record, next, &objects->buckets[i].records, node)
			record_remove(objects, record);
}

/* The subsystem goes: nobody is inside. */
void objects_free(struct subsystem *subsystem)
{
	if (subsystem->objects)
		records_free(subsystem->objects);
	kvfree(subsystem->objects);
	subsystem->objects = NULL;
}
