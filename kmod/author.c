// SPDX-License-Identifier: GPL-2.0
/*
 * author.c - calling what an edition's author wrote: prepare, transfer, commit, abort, retire
 *
 * Each call is made in a thread of its own. Should it fault, the kernel ends that thread, and with it every lock it
 * holds stays locked for ever; so it holds none of ours, and whoever waits for it is told that it has died.
 */
#include <linux/completion.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/sched/task.h>

#include "core.h"

#define DEATH_POLL (HZ / 20)

struct call {
	const struct dynamos_edition_traits *traits;
	enum callback callback;
	int result;
	struct completion done;
};

static bool has_callback(const struct dynamos_edition_traits *traits, enum callback callback)
{
	switch (callback) {
	case CALLBACK_PREPARE:
		return traits->prepare;
	case CALLBACK_INTO:
	case CALLBACK_OUT_OF:
		return traits->transfer;
	case CALLBACK_COMMIT:
		return traits->commit;
	case CALLBACK_ABORT:
		return traits->abort;
	case CALLBACK_RETIRE:
		return traits->retire;
	}
	return false;
}

static int make_call(const struct call *call)
{
	switch (call->callback) {
	case CALLBACK_PREPARE:
		return failable(call->traits->prepare(), -ENOMEM);
	case CALLBACK_INTO:
		return failable(call->traits->transfer(NULL, DYNAMOS_INTO), -ENOMEM);
	case CALLBACK_OUT_OF:
		return failable(call->traits->transfer(NULL, DYNAMOS_OUT_OF), -ENOMEM);
	case CALLBACK_COMMIT:
		call->traits->commit();
		break;
	case CALLBACK_ABORT:
		call->traits->abort();
		break;
	case CALLBACK_RETIRE:
		call->traits->retire();
		break;
	}
	return 0;
}

/* Data that is being moved fits neither edition. Else a switch to the original need not wait for an author. */
static void may_be_overtaken(struct subsystem *subsystem, enum callback callback, bool may)
{
	if (callback == CALLBACK_INTO || callback == CALLBACK_OUT_OF)
		return;
	mutex_lock(&dynamos_lock);
	subsystem->in_author = may;
	mutex_unlock(&dynamos_lock);
}

static int author_thread(void *data)
{
	struct call *call = data;

	call->result = make_call(call);
	/* Whoever waits may be gone behind this. */
	complete(&call->done);
	return 0;
}

static int wait_for(struct call *call, const struct task_struct *thread)
{
	while (!wait_for_completion_timeout(&call->done, DEATH_POLL)) {
		if (!READ_ONCE(thread->exit_state))
			continue;
		/* It may have done its work, and ended, between the two looks. */
		return try_wait_for_completion(&call->done) ? call->result : -EFAULT;
	}
	return call->result;
}

/**
 * author_call() - call one of an edition's callbacks
 * @edition: the edition
 * @callback: which; one that it does not have has nothing to say
 *
 * Sleeps for as long as the author likes; the caller holds no lock but subsystem->switching. Return: what the callback
 * says, or 0; -EFAULT when it died.
 */
int author_call(const struct edition *edition, enum callback callback)
{
	struct call call = {
		.traits = edition->def->traits,
		.callback = callback,
	};
	struct task_struct *thread;
	int result;

	if (!has_callback(call.traits, callback))
		return 0;
	init_completion(&call.done);
	thread = failable(kthread_create(author_thread, &call, "dynamos/%s", edition->def->name), ERR_PTR(-ENOMEM));
	/* No memory for a thread is no reason to leave out what has to be done. */
	if (IS_ERR(thread))
		return make_call(&call);
	get_task_struct(thread);
	WRITE_ONCE(edition->subsystem->author, thread);
	may_be_overtaken(edition->subsystem, callback, true);
	wake_up_process(thread);
	result = wait_for(&call, thread);
	may_be_overtaken(edition->subsystem, callback, false);
	WRITE_ONCE(edition->subsystem->author, NULL);
	put_task_struct(thread);
	return result;
}
