// SPDX-License-Identifier: GPL-2.0
/*
 * command.c - from a line to what it asks for
 *
 * The parser takes any bytes: a command is one short line of printable ASCII words, and everything else is refused
 * before it means anything. Lines and answers: docs/abi.md.
 */
#include <linux/bitops.h>
#include <linux/ctype.h>
#include <linux/kernel.h>
#include <linux/string.h>

#include "core.h"

#define COMMAND_WORDS 8
#define TIMEOUT_MS 1000
#define TIMEOUT_MAX_MS 60000
#define GRACE_MS 30000
#define TTL_MIN_MS 100
#define LEASE_MAX_MS 3600000

void request_reason(struct request *request, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vscnprintf(request->reason, sizeof(request->reason), format, args);
	va_end(args);
}

/* The sentence of whoever refused it; some can only say no. */
const char *request_why(const struct request *request, int err)
{
	if (*request->reason)
		return request->reason;
	return err == -ENOMEM ? "no memory" : "it failed";
}

/* ------------------------------------------------------------------------------------------------------- words */

/* Splits at blanks, in place. Return: number of words, or -EINVAL when there are too many or none. */
static int split(char *line, char *words[COMMAND_WORDS])
{
	char *word;
	int count = 0;

	while ((word = strsep(&line, " \t"))) {
		if (!*word)
			continue;
		if (count == COMMAND_WORDS)
			return -EINVAL;
		words[count++] = word;
	}
	return count ?: -EINVAL;
}

/* The value of "key=value" if it is that key, or NULL. */
static const char *value_of(const char *option, const char *key)
{
	size_t length = strlen(key);

	return !strncmp(option, key, length) && option[length] == '=' ? option + length + 1 : NULL;
}

/* An option of a command, and how its value is taken. */
struct option {
	const char *key;
	int (*take)(const char *value, void *options, struct request *request);
};

static const struct option *find_option(const struct option *known, const char *word, const char **value)
{
	for (; known->key; known++) {
		*value = value_of(word, known->key);
		if (*value)
			return known;
	}
	return NULL;
}

/* Each at most once. Return: 0, and the bits of those that were there in @seen; -EINVAL. */
static int take_options(char *words[], int count, const struct option *known, void *options, unsigned long *seen,
			struct request *request)
{
	const struct option *option;
	const char *value;
	int i, err;

	*seen = 0;
	for (i = 0; i < count; i++) {
		option = find_option(known, words[i], &value);
		if (!option) {
			request_reason(request, "unknown option %s", words[i]);
			return -EINVAL;
		}
		if (__test_and_set_bit(option - known, seen)) {
			request_reason(request, "option %s twice", option->key);
			return -EINVAL;
		}
		err = option->take(value, options, request);
		if (err)
			return err;
	}
	return 0;
}

/* ------------------------------------------------------------------------------------------------------- switch */

static int take_mode(const char *value, void *to, struct request *request)
{
	struct switch_options *options = to;
	int mode;

	for (mode = 0; mode < MODES; mode++) {
		if (!strcmp(value, mode_name(mode))) {
			options->mode = mode;
			return 0;
		}
	}
	request_reason(request, "unknown mode %s: concurrent, exclusive, per-object or scoped", value);
	return -EINVAL;
}

static int take_timeout(const char *value, void *to, struct request *request)
{
	struct switch_options *options = to;

	if (!kstrtouint(value, 10, &options->timeout_ms) &&
	    options->timeout_ms >= 1 && options->timeout_ms <= TIMEOUT_MAX_MS)
		return 0;
	request_reason(request, "timeout_ms is 1 to %d, not %s", TIMEOUT_MAX_MS, value);
	return -EINVAL;
}

static int take_scope(const char *value, void *to, struct request *request)
{
	struct switch_options *options = to;

	options->scope = value;
	return 0;
}

static int take_objects(const char *value, void *to, struct request *request)
{
	struct switch_options *options = to;

	options->keep = !strcmp(value, "keep");
	if (options->keep || !strcmp(value, "migrate"))
		return 0;
	request_reason(request, "objects is migrate or keep, not %s", value);
	return -EINVAL;
}

static const struct option switch_known[] = {
	{ "mode", take_mode },
	{ "timeout_ms", take_timeout },
	{ "scope", take_scope },
	{ "objects", take_objects },
	{ }
};

/* The one mode that each is for; MODES: any. */
static const int switch_modes[] = { MODES, MODE_EXCLUSIVE, MODE_SCOPED, MODE_PER_OBJECT };

static int take_switch_options(char *words[], int count, struct switch_options *options, struct request *request)
{
	unsigned long seen;
	int key, err;

	err = take_options(words, count, switch_known, options, &seen, request);
	if (err)
		return err;
	for_each_set_bit(key, &seen, ARRAY_SIZE(switch_modes)) {
		if (switch_modes[key] == MODES || switch_modes[key] == options->mode)
			continue;
		/* Without a mode, a timeout is for the case that it becomes an exclusive one. */
		if (switch_modes[key] == MODE_EXCLUSIVE && options->mode == MODES)
			continue;
		request_reason(request, "option %s is for mode %s", switch_known[key].key,
			       mode_name(switch_modes[key]));
		return -EINVAL;
	}
	return 0;
}

static int command_switch(char *words[], int count, struct request *request)
{
	struct switch_options options = { .mode = MODES, .timeout_ms = TIMEOUT_MS };
	int err;

	if (count < 3) {
		request_reason(request, "switch needs a subsystem and an edition");
		return -EINVAL;
	}
	err = take_switch_options(words + 3, count - 3, &options, request);
	if (err)
		return err;
	return switch_edition(words[1], words[2], &options, request);
}

/* ------------------------------------------------------------------------------------------------------- leases */

static int take_action(const char *value, void *to, struct request *request)
{
	struct lease_options *options = to;

	options->hold = !strcmp(value, "hold");
	if (options->hold || !strcmp(value, "baseline"))
		return 0;
	request_reason(request, "action is baseline or hold, not %s", value);
	return -EINVAL;
}

static int take_baseline(const char *value, void *to, struct request *request)
{
	struct lease_options *options = to;

	options->baseline = value;
	if (name_is_valid(value))
		return 0;
	request_reason(request, "%s is not an edition's name", value);
	return -EINVAL;
}

static int take_grace(const char *value, void *to, struct request *request)
{
	struct lease_options *options = to;

	if (!kstrtouint(value, 10, &options->grace_ms) && options->grace_ms <= LEASE_MAX_MS)
		return 0;
	request_reason(request, "grace_ms is 0 to %d, not %s", LEASE_MAX_MS, value);
	return -EINVAL;
}

static int take_ttl(const char *value, void *to, struct request *request)
{
	struct lease_options *options = to;

	if (!kstrtouint(value, 10, &options->ttl_ms) && options->ttl_ms <= LEASE_MAX_MS &&
	    (!options->ttl_ms || options->ttl_ms >= TTL_MIN_MS))
		return 0;
	request_reason(request, "ttl_ms is 0, or %d to %d, not %s", TTL_MIN_MS, LEASE_MAX_MS, value);
	return -EINVAL;
}

static const struct option lease_known[] = {
	{ "action", take_action },
	{ "baseline", take_baseline },
	{ "grace_ms", take_grace },
	{ "ttl_ms", take_ttl },
	{ }
};

static int command_lease(char *words[], int count, struct request *request)
{
	struct lease_options options = { .baseline = "original", .grace_ms = GRACE_MS };
	unsigned long seen;
	int err;

	if (count < 2) {
		request_reason(request, "lease needs a subsystem");
		return -EINVAL;
	}
	err = take_options(words + 2, count - 2, lease_known, &options, &seen, request);
	if (err)
		return err;
	return lease_take(words[1], &options, request);
}

static int command_release(char *words[], int count, struct request *request)
{
	if (count != 2) {
		request_reason(request, "release needs a subsystem");
		return -EINVAL;
	}
	return lease_release(words[1], request);
}

/* --------------------------------------------------------------------------------------------------- the others */

static int command_quarantine(char *words[], int count, struct request *request)
{
	if (count != 3) {
		request_reason(request, "quarantine needs a subsystem and an edition");
		return -EINVAL;
	}
	return quarantine_edition(words[1], words[2], request);
}

static int command_clear(char *words[], int count, struct request *request)
{
	if (count != 3) {
		request_reason(request, "clear needs a subsystem and an edition");
		return -EINVAL;
	}
	return clear_edition(words[1], words[2], request);
}

static int command_set(char *words[], int count, struct request *request)
{
	if (count != 4) {
		request_reason(request, "set needs a subsystem, an edition and parameter=value");
		return -EINVAL;
	}
	return parameter_set(words[1], words[2], words[3], request);
}

static int command_who(char *words[], int count, struct request *request)
{
	if (count != 2) {
		request_reason(request, "who needs a subsystem");
		return -EINVAL;
	}
	return name_insiders(words[1], request);
}

/* "function" or "module:function". */
static int command_check(char *words[], int count, struct request *request)
{
	char *name, *home;
	int err;

	if (count != 2) {
		request_reason(request, "check needs a function");
		return -EINVAL;
	}
	name = words[1];
	home = strchr(name, ':') ? strsep(&name, ":") : NULL;
	if (!name_is_valid(name) || (home && !name_is_valid(home))) {
		request_reason(request, "a function is named like function, or module:function");
		return -EINVAL;
	}
	mutex_lock(&dynamos_lock);
	err = gate_check(name, home, request);
	mutex_unlock(&dynamos_lock);
	return err;
}

static const struct {
	const char *verb;
	int (*run)(char *words[], int count, struct request *request);
} commands[] = {
	{ "switch", command_switch },
	{ "set", command_set },
	{ "who", command_who },
	{ "check", command_check },
	{ "quarantine", command_quarantine },
	{ "clear", command_clear },
	{ "lease", command_lease },
	{ "release", command_release },
};

/**
 * command_run() - do what a line asks for
 * @line: is cut into words
 * @request: who asks; gets the sentence when the answer is no
 *
 * Return: 0; -EINVAL, or what the command says.
 */
int command_run(char *line, struct request *request)
{
	char *words[COMMAND_WORDS];
	int count;
	int i;

	count = split(line, words);
	if (count < 0) {
		request_reason(request, "a command is one to %d words", COMMAND_WORDS);
		return count;
	}
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(words[0], commands[i].verb))
			return commands[i].run(words, count, request);
	request_reason(request, "unknown command %s", words[0]);
	return -EINVAL;
}

/* Takes one newline off the end. A quote is not printable here: it could not be shown in an event. */
int line_check(char *line, size_t length)
{
	size_t i;

	if (length && line[length - 1] == '\n')
		line[--length] = '\0';
	for (i = 0; i < length; i++) {
		if (line[i] == '\t')
			continue;
		if (!isascii(line[i]) || !isprint(line[i]) || line[i] == '"')
			return -EINVAL;
	}
	return 0;
}
