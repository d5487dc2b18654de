// SPDX-License-Identifier: GPL-2.0
/* quarantine.c - editions that nobody may switch to: by command; tripwire.c does the same of itself */
#include "core.h"

#define QUARANTINE_TIMEOUT_MS 1000

/* One command at a time: between an edition's mark and the event that tells of it, calls are waited for. */
static DEFINE_MUTEX(quarantining);

static int take_turn(struct request *request)
{
	int err = mutex_lock_interruptible(&quarantining);

	if (err)
		request_reason(request, "interrupted by a signal while waiting for its turn");
	return err;
}

const char *why_name(enum why why)
{
	static const char *const names[] = { "none", "oops", "warn", "command" };

	return names[why];
}

static void say_quarantined(const struct edition *edition, pid_t by)
{
	event_emit("quarantined", "subsystem=%s edition=%s why=%s by=%d", edition->subsystem->def->name,
		   edition->def->name, why_name(edition->quarantine), by);
}

/* Calls get it now: they are taken away from it first, or it stays as it is. */
static int take_calls_away(const char *subsystem, const char *edition_name, struct request *request)
{
	struct switch_options options = { .mode = MODES, .timeout_ms = QUARANTINE_TIMEOUT_MS };
	struct edition *edition;
	int err;

	err = switch_edition(subsystem, "original", &options, request);
	mutex_lock(&dynamos_lock);
	/* It may have been unloaded meanwhile, or have faulted. */
	edition = edition_by_names(subsystem, edition_name, NULL);
	if (!IS_ERR(edition) && edition->quarantine == WHY_COMMAND) {
		if (err)
			WRITE_ONCE(edition->quarantine, WHY_NOT);
		else
			say_quarantined(edition, request->by);
	}
	mutex_unlock(&dynamos_lock);
	return err;
}

/**
 * quarantine_edition() - nobody may switch to an edition from now on
 * @subsystem: name of the subsystem, which goes to the original first if calls get the edition now
 * @edition_name: name of the edition
 * @request: who asks; gets the sentence when the answer is no
 *
 * Return: 0; -ENOENT, -ENXIO no such subsystem or edition, -EINVAL it is the original, -EINTR; or why the subsystem
 * could not be switched: then the edition is not in quarantine.
 */
int quarantine_edition(const char *subsystem, const char *edition_name, struct request *request)
{
	struct edition *edition;
	bool callable = false;
	int err;

	err = take_turn(request);
	if (err)
		return err;
	mutex_lock(&dynamos_lock);
	edition = edition_by_names(subsystem, edition_name, request);
	if (IS_ERR(edition)) {
		err = PTR_ERR(edition);
	} else if (edition == edition->subsystem->original) {
		request_reason(request, "the original cannot be put in quarantine");
		err = -EINVAL;
	} else if (!edition->quarantine) {
		WRITE_ONCE(edition->quarantine, WHY_COMMAND);
		callable = edition_can_be_called(edition);
		if (!callable)
			say_quarantined(edition, request->by);
	}
	mutex_unlock(&dynamos_lock);
	if (callable)
		err = take_calls_away(subsystem, edition_name, request);
	mutex_unlock(&quarantining);
	return err;
}

/* Return: 0 also when it was not in quarantine; -ENOENT, -ENXIO no such subsystem or edition, -EINTR. */
int clear_edition(const char *subsystem, const char *edition_name, struct request *request)
{
	struct edition *edition;
	int err;

	err = take_turn(request);
	if (err)
		return err;
	mutex_lock(&dynamos_lock);
	edition = edition_by_names(subsystem, edition_name, request);
	if (!IS_ERR(edition) && edition->quarantine) {
		trip_reset(edition);
		WRITE_ONCE(edition->quarantine, WHY_NOT);
		event_emit("cleared", "subsystem=%s edition=%s by=%d", subsystem, edition_name, request->by);
	}
	mutex_unlock(&dynamos_lock);
	mutex_unlock(&quarantining);
	return PTR_ERR_OR_ZERO(edition);
}
