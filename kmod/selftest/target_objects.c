// SPDX-License-Identifier: GPL-2.0
/*
 * The objects: a list of them by key, and the gated functions about them.
 *
 * A gated function may be entered through an edition that makes its caller wait, so no lock is held around a call.
 * What keeps an object alive meanwhile is its count of users. The two functions that begin and end an object's life
 * put it on the list and take it off: whoever converts all objects while no function runs finds each that there is.
 */
#include <linux/err.h>
#include <linux/export.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "target_internal.h"

static LIST_HEAD(objects);
static DEFINE_MUTEX(objects_mutex);

/* Threads asleep in target_block(); objects seen by target_use() or target_free() in a layout that they do not know. */
static atomic_t waiting;
static atomic_t wrong_layout;

static struct target_object *find(long key)
{
	struct target_object *o;

	lockdep_assert_held(&objects_mutex);
	list_for_each_entry(o, &objects, link)
		if (o->key == key)
			return o;
	return NULL;
}

target_gated struct target_object *target_new(long key)
{
	struct target_object *o = kzalloc(sizeof(*o), GFP_KERNEL);

	if (!o)
		return ERR_PTR(-ENOMEM);
	o->key = key;
	o->layout = TARGET_PLAIN;
	o->value = TARGET_FIRST_VALUE;
	spin_lock_init(&o->lock);
	init_waitqueue_head(&o->wait);

	mutex_lock(&objects_mutex);
	if (find(key)) {
		kfree(o);
		o = ERR_PTR(-EEXIST);
	} else {
		list_add_tail(&o->link, &objects);
	}
	mutex_unlock(&objects_mutex);
	return o;
}

target_gated void target_free(struct target_object *o)
{
	if (o->layout != TARGET_PLAIN)
		atomic_inc(&wrong_layout);
	mutex_lock(&objects_mutex);
	list_del(&o->link);
	mutex_unlock(&objects_mutex);
	kfree(o);
}

target_gated long target_use(struct target_object *o)
{
	long value;

	spin_lock(&o->lock);
	if (o->layout != TARGET_PLAIN)
		atomic_inc(&wrong_layout);
	value = o->value;
	o->value = value + 1;
	spin_unlock(&o->lock);
	return value;
}

target_gated int target_block(struct target_object *o, unsigned int seen)
{
	int ret;

	atomic_inc(&waiting);
	ret = wait_event_killable(o->wait, READ_ONCE(o->releases) != seen);
	atomic_dec(&waiting);
	return ret ? -EINTR : 0;
}

void target_for_each(void (*visit)(struct target_object *o))
{
	struct target_object *o;

	mutex_lock(&objects_mutex);
	list_for_each_entry(o, &objects, link)
		visit(o);
	mutex_unlock(&objects_mutex);
}
EXPORT_SYMBOL_GPL(target_for_each);

/* For a call about the object; NULL when there is none of this key. target_put() afterwards. */
struct target_object *target_get(long key)
{
	struct target_object *o;

	mutex_lock(&objects_mutex);
	o = find(key);
	if (o && o->known)
		o->users++;
	else
		o = NULL;
	mutex_unlock(&objects_mutex);
	return o;
}

void target_put(struct target_object *o)
{
	mutex_lock(&objects_mutex);
	o->users--;
	mutex_unlock(&objects_mutex);
}

int target_create(long key)
{
	struct target_object *o = target_new(key);

	if (IS_ERR(o))
		return PTR_ERR(o);
	/* Not earlier: an edition may still have been at work on it. */
	mutex_lock(&objects_mutex);
	o->known = true;
	mutex_unlock(&objects_mutex);
	return 0;
}

/* Claims the object for target_free(): from here on no command finds it. */
static int claim(long key, struct target_object **claimed)
{
	struct target_object *o = find(key);

	if (!o || !o->known)
		return -ENOENT;
	if (o->users)
		return -EBUSY;
	o->known = false;
	*claimed = o;
	return 0;
}

int target_destroy(long key)
{
	struct target_object *o;
	int ret;

	mutex_lock(&objects_mutex);
	ret = claim(key, &o);
	mutex_unlock(&objects_mutex);
	if (!ret)
		target_free(o);
	return ret;
}

static void release(struct target_object *o)
{
	WRITE_ONCE(o->releases, o->releases + 1);
	wake_up_all(&o->wait);
}

int target_release(long key)
{
	struct target_object *o;

	mutex_lock(&objects_mutex);
	o = find(key);
	if (o)
		release(o);
	mutex_unlock(&objects_mutex);
	return o ? 0 : -ENOENT;
}

void target_release_all(void)
{
	target_for_each(release);
}

int target_waiting(void)
{
	return atomic_read(&waiting);
}

int target_wrong(void)
{
	return atomic_read(&wrong_layout);
}

/* For the module's end, when there are no commands any more. */
void target_destroy_all(void)
{
	struct target_object *o, *next;

	list_for_each_entry_safe(o, next, &objects, link)
		target_free(o);
}
