// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writes lines to /dev/dynamos that are no commands, or may be some, and checks each answer (tests/kernel/test_fuzz.py).
 *
 *	fuzz_device invalid|mixed SEED LINES alone|together
 *
 * "invalid": no line is a command, and every write must fail. "mixed": some lines are commands. "alone": nobody else
 * writes, so that every refusal's event can be seen and nothing may change meanwhile but by itself.
 *
 * The grammar of docs/abi.md is here twice: what makes lines (at random, then mutated), and judge(), which says of any
 * bytes whether the module must refuse them, and with which errno. Of each line is checked:
 *
 *	that it is refused, if judge() says so, with one of the errnos that its faults have; else with a documented one;
 *	that there is one event `refused` for a refusal, with the errno, the line and a reason, and no other event of ours;
 *	that there is no event `refused` when it was taken;
 *	that no seq is missing;
 *	that what sysfs shows of the subsystems is as it was before a line that was refused.
 *
 * The subsystems `readahead` and `selftest` are there, with all their editions. What was counted is printed as
 * key=value. The same seed makes the same lines, but for this process's pid in some.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define DEVICE "/dev/dynamos"
#define SYSFS "/sys/kernel/dynamos/"
#define COMMAND_MAX 255
#define COMMAND_SHOWN 120
#define LINE_MOST 70000
#define VALUE_MAX 64
#define SCOPE_MAX 127
#define PID_MOST 4194304
#define WORDS_MOST 200
#define EVENTS_BYTES (256 * 512)
#define LOOK_EVERY 256		/* lines, where nothing is ever taken */
#define EVENT_WAIT_US 50000
#define EVENT_WAITS 1200	/* a minute: whoever tells of it may be kept from it for long */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct line {
	size_t length;
	char bytes[LINE_MOST];
};

static uint64_t seed, number, lines;
static bool mixed, alone;
static struct line line;
static int device;
static pid_t pid;
static unsigned char *memory;	/* a page that can be read, and one that cannot */
static size_t page;

/* ------------------------------------------------------------------------------------------------------ failing */

static void print_line(void)
{
	size_t i, shown = line.length < 600 ? line.length : 600;

	fprintf(stderr, "  seed=%llu line=%llu length=%zu text=", (unsigned long long)seed, (unsigned long long)number,
		line.length);
	for (i = 0; i < shown; i++)
		fputc(isprint((unsigned char)line.bytes[i]) ? line.bytes[i] : '.', stderr);
	fprintf(stderr, "\n  hex=");
	for (i = 0; i < shown; i++)
		fprintf(stderr, "%02x", (unsigned char)line.bytes[i]);
	fputc('\n', stderr);
}

__attribute__((noreturn, format(printf, 1, 2)))
static void fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "fuzz_device: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	print_line();
	exit(1);
}

/* --------------------------------------------------------------------------------------------------------- dice */

static uint64_t state;

/* xorshift64* */
static uint64_t roll(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545F4914F6CDD1DULL;
}

/* 0 to @most - 1. */
static size_t below(size_t most)
{
	return (roll() >> 16) % most;
}

static bool one_in(size_t many)
{
	return !below(many);
}

#define PICK(array) ((array)[below(COUNT(array))])

/* ------------------------------------------------------------------------------------------------- what there is */

static const struct named {
	const char *subsystem;
	const char *editions[8];
} subsystems[] = {
	{ "readahead", { "original", "random", "streaming" } },
	{ "selftest", { "original", "b", "c", "layout", "handler" } },
};

/* Not `stall` of selftest's b: it keeps whoever sets it, and everybody else, for as long as it is told. */
static const struct parameter {
	const char *subsystem, *edition, *name;
	bool writable;
} parameters[] = {
	{ "readahead", "streaming", "factor", true },
	{ "selftest", "b", "refuse_prepare", true },
	{ "selftest", "b", "prepares", false },
	{ "selftest", "b", "commits", false },
	{ "selftest", "b", "aborts", false },
	{ "selftest", "b", "retires", false },
	{ "selftest", "layout", "refuse_prepare", true },
	{ "selftest", "layout", "refuse_transfer", true },
	{ "selftest", "layout", "refuse_transfer_out", true },
	{ "selftest", "layout", "prepares", false },
	{ "selftest", "layout", "commits", false },
	{ "selftest", "layout", "aborts", false },
	{ "selftest", "layout", "retires", false },
	{ "selftest", "layout", "transfers_into", false },
	{ "selftest", "layout", "transfers_out_of", false },
	{ "selftest", "layout", "converted", false },
	{ "selftest", "layout", "wrong", false },
	{ "selftest", "layout", "shadow_uses", false },
	{ "selftest", "layout", "shadow_failures", false },
};

static const char *const verbs[] = { "switch", "set", "who", "quarantine", "clear", "lease", "release" };
static const char *const modes[] = { "concurrent", "exclusive", "per-object", "scoped" };

static const struct named *find_subsystem(const char *name)
{
	size_t i;

	for (i = 0; i < COUNT(subsystems); i++)
		if (!strcmp(subsystems[i].subsystem, name))
			return &subsystems[i];
	return NULL;
}

static bool has_edition(const struct named *subsystem, const char *name)
{
	const char *const *edition;

	for (edition = subsystem->editions; *edition; edition++)
		if (!strcmp(*edition, name))
			return true;
	return false;
}

static bool is_among(const char *word, const char *const words[], size_t count)
{
	while (count--)
		if (!strcmp(word, words[count]))
			return true;
	return false;
}

/* ----------------------------------------------------------------------------------------------------- judgement */

static const struct {
	int number;
	const char *name;
} documented[] = {
	{ EINVAL, "EINVAL" }, { E2BIG, "E2BIG" }, { ENOENT, "ENOENT" }, { ENXIO, "ENXIO" }, { ENODEV, "ENODEV" },
	{ ESRCH, "ESRCH" }, { EOPNOTSUPP, "EOPNOTSUPP" }, { ETIMEDOUT, "ETIMEDOUT" }, { ECANCELED, "ECANCELED" },
	{ EPERM, "EPERM" }, { ENOTRECOVERABLE, "ENOTRECOVERABLE" }, { EBUSY, "EBUSY" }, { EFAULT, "EFAULT" },
	{ EINTR, "EINTR" }, { ENOMEM, "ENOMEM" },
};

/* A set of errnos. */
static unsigned int bit(int error)
{
	size_t i;

	for (i = 0; i < COUNT(documented); i++)
		if (documented[i].number == error)
			return 1U << i;
	return 0;
}

/* What is wrong with a line. */
struct verdict {
	unsigned int must;	/* errnos of faults that it has for certain; 0: it may be a command */
	unsigned int may;	/* what else it can be refused with, if it has a fault */
};

static void must(struct verdict *verdict, int error)
{
	verdict->must |= bit(error);
}

/* A number as the kernel reads it: a plus is allowed. Return: -1 when it is none, or very large. */
static long long to_number(const char *text)
{
	long long value = 0;

	if (*text == '+')
		text++;
	if (!*text || text[strspn(text, "0123456789")])
		return -1;
	for (; *text; text++) {
		if (value > LLONG_MAX / 100)
			return -1;
		value = value * 10 + *text - '0';
	}
	return value;
}

static bool is_number(const char *text, long long from, long long to)
{
	long long value = to_number(text);

	return value >= from && value <= to;
}

static int task_fault(const char *value)
{
	if (!is_number(value, 1, INT_MAX))
		return EINVAL;
	return to_number(value) > PID_MOST ? ESRCH : 0;
}

static int cgroup_fault(const char *value)
{
	char path[COMMAND_MAX + 32];

	if (*value != '/')
		return EINVAL;
	snprintf(path, sizeof(path), "/sys/fs/cgroup%s", value);
	return access(path, F_OK) ? ESRCH : 0;
}

static int share_fault(const char *value)
{
	return strncmp(value, "1/", 2) || !is_number(value + 2, 1, 1000000) ? EINVAL : 0;
}

/* The list's own grammar is the kernel's: "all", "N" and strides are in it. */
static void judge_cpus(const char *value, struct verdict *verdict)
{
	if (!*value || value[strspn(value, "0123456789,-:/aAlLN")])
		verdict->must |= bit(EINVAL) | bit(ESRCH);
}

static void judge_scope(const char *scope, const char *edition, struct verdict *verdict)
{
	int fault = 0;

	/* It is looked at late: the mode, and whoever prepares the edition, come first. */
	verdict->may |= bit(EINVAL) | bit(ESRCH) | bit(EOPNOTSUPP) | bit(ECANCELED) | bit(ENODEV) |
			bit(ENOTRECOVERABLE);
	if (strlen(scope) > SCOPE_MAX)
		fault = EINVAL;
	else if (!strncmp(scope, "cpus:", 5))
		judge_cpus(scope + 5, verdict);
	else if (!strncmp(scope, "task:", 5))
		fault = task_fault(scope + 5);
	else if (!strncmp(scope, "cgroup:", 7))
		fault = cgroup_fault(scope + 7);
	else if (!strncmp(scope, "share:", 6))
		fault = share_fault(scope + 6);
	else if (!strcmp(scope, "handler"))
		fault = strcmp(edition, "handler") ? ESRCH : 0;
	else
		fault = EINVAL;
	if (fault)
		must(verdict, fault);
}

static const struct named *judge_subsystem(const char *name, struct verdict *verdict)
{
	const struct named *subsystem = find_subsystem(name);

	if (!subsystem)
		must(verdict, ENOENT);
	return subsystem;
}

static void judge_names(char *words[], struct verdict *verdict)
{
	const struct named *subsystem = judge_subsystem(words[1], verdict);

	if (subsystem && !has_edition(subsystem, words[2]))
		must(verdict, ENXIO);
}

/* Return: which of the keys an option has; that of the NULL behind them when it has none. */
static int key_of(const char *option, const char *const keys[])
{
	size_t length = strcspn(option, "=");
	int key;

	for (key = 0; keys[key]; key++)
		if (option[length] && strlen(keys[key]) == length && !strncmp(option, keys[key], length))
			break;
	return key;
}

/* Sorts options by their keys; one that is unknown, or there twice, is a fault. */
static void take_options(char *words[], const char *const keys[], const char *values[], struct verdict *verdict)
{
	int key;

	for (; *words; words++) {
		key = key_of(*words, keys);
		if (!keys[key] || values[key])
			must(verdict, EINVAL);
		else
			values[key] = strchr(*words, '=') + 1;
	}
}

static void judge_switch(char *words[], int count, struct verdict *verdict)
{
	static const char *const keys[] = { "mode", "timeout_ms", "scope", "objects", NULL };
	const char *values[4] = { NULL }, *mode, *timeout, *scope, *objects;
	bool scoped;

	if (count < 3) {
		must(verdict, EINVAL);
		return;
	}
	judge_names(words, verdict);
	take_options(words + 3, keys, values, verdict);
	mode = values[0], timeout = values[1], scope = values[2], objects = values[3];
	scoped = mode && !strcmp(mode, "scoped");
	if (mode && !is_among(mode, modes, COUNT(modes)))
		must(verdict, EINVAL);
	if (timeout && (!is_number(timeout, 1, 60000) || (mode && strcmp(mode, "exclusive"))))
		must(verdict, EINVAL);
	if (objects && (!mode || strcmp(mode, "per-object")))
		must(verdict, EINVAL);
	if (objects && strcmp(objects, "migrate") && strcmp(objects, "keep"))
		must(verdict, EINVAL);
	if (scope && !scoped)
		must(verdict, EINVAL);
	if (scope)
		judge_scope(scope, words[2], verdict);
	if (scoped && !scope) {
		judge_scope("", words[2], verdict);
		must(verdict, EINVAL);
	}
}

static const struct parameter *find_parameter(const char *subsystem, const char *edition, const char *name)
{
	const struct parameter *found;

	for (found = parameters; found < parameters + COUNT(parameters); found++)
		if (!strcmp(found->subsystem, subsystem) && !strcmp(found->edition, edition) &&
		    !strcmp(found->name, name))
			return found;
	return NULL;
}

static void judge_set(char *words[], int count, struct verdict *verdict)
{
	const struct parameter *parameter;
	char *value;

	value = count == 4 ? strchr(words[3], '=') : NULL;
	if (!value || value == words[3] || strlen(value + 1) > VALUE_MAX) {
		must(verdict, EINVAL);
		return;
	}
	judge_names(words, verdict);
	*value++ = '\0';
	parameter = find_parameter(words[1], words[2], words[3]);
	if (verdict->must)
		return;
	if (!parameter)
		must(verdict, ESRCH);
	else if (!parameter->writable)
		must(verdict, EPERM);
	else if (!*value || value[strspn(value, "0123456789abcdefABCDEFxX+-")])
		must(verdict, EINVAL);
}

static void judge_lease(char *words[], int count, struct verdict *verdict)
{
	static const char *const keys[] = { "action", "baseline", "grace_ms", "ttl_ms", NULL };
	const char *values[4] = { NULL }, *action, *baseline, *grace, *ttl;
	const struct named *subsystem;

	if (count < 2) {
		must(verdict, EINVAL);
		return;
	}
	subsystem = judge_subsystem(words[1], verdict);
	/* The other writer may hold it, which is looked at first. */
	verdict->may |= bit(EBUSY);
	take_options(words + 2, keys, values, verdict);
	action = values[0], baseline = values[1], grace = values[2], ttl = values[3];
	if (action && strcmp(action, "baseline") && strcmp(action, "hold"))
		must(verdict, EINVAL);
	if (subsystem && baseline && !has_edition(subsystem, baseline))
		must(verdict, ENXIO);
	if (grace && !is_number(grace, 0, 3600000))
		must(verdict, EINVAL);
	if (ttl && !is_number(ttl, 0, 0) && !is_number(ttl, 100, 3600000))
		must(verdict, EINVAL);
}

static void judge_count(int count, int right, struct verdict *verdict)
{
	if (count != right)
		must(verdict, EINVAL);
}

static void judge_words(char *words[], int count, struct verdict *verdict)
{
	if (!count || !is_among(words[0], verbs, COUNT(verbs))) {
		must(verdict, EINVAL);
	} else if (!strcmp(words[0], "switch")) {
		judge_switch(words, count, verdict);
	} else if (!strcmp(words[0], "set")) {
		judge_set(words, count, verdict);
	} else if (!strcmp(words[0], "who")) {
		judge_count(count, 2, verdict);
		if (count == 2)
			judge_subsystem(words[1], verdict);
	} else {
		/* A module that does not know these yet refuses them as it should. */
		verdict->may |= bit(EINVAL);
		if (!strcmp(words[0], "lease")) {
			judge_lease(words, count, verdict);
			return;
		}
		judge_count(count, *words[0] == 'r' ? 2 : 3, verdict);
		if (!verdict->must && count == 3)
			judge_names(words, verdict);
		else if (!verdict->must)
			judge_subsystem(words[1], verdict);
	}
}

/* Whether it is printable, without the newline that may end it. @text: gets it, as a string. */
static bool to_text(const struct line *from, char text[COMMAND_MAX + 1])
{
	size_t i, length = from->length;

	if (length > COMMAND_MAX)
		return false;
	if (length && from->bytes[length - 1] == '\n')
		length--;
	for (i = 0; i < length; i++)
		if (from->bytes[i] != '\t' &&
		    (from->bytes[i] < ' ' || from->bytes[i] > '~' || from->bytes[i] == '"'))
			return false;
	memcpy(text, from->bytes, length);
	text[length] = '\0';
	return true;
}

static int split(char *text, char *words[WORDS_MOST + 1])
{
	int count = 0;
	char *word;

	for (word = strtok(text, " \t"); word && count < WORDS_MOST; word = strtok(NULL, " \t"))
		words[count++] = word;
	words[count] = NULL;
	return count;
}

static struct verdict judge(const struct line *of)
{
	char text[COMMAND_MAX + 1], *words[WORDS_MOST + 1];
	struct verdict verdict = { 0, 0 };

	if (of->length > COMMAND_MAX)
		must(&verdict, E2BIG);
	else if (!to_text(of, text))
		must(&verdict, EINVAL);
	else
		judge_words(words, split(text, words), &verdict);
	return verdict;
}

/* --------------------------------------------------------------------------------------------------- making lines */

static const char *const odd_names[] = {
	"nosuch", "readahea", "readaheadd", "READAHEAD", "Selftest", "original", "..", "../..", "/", ".", "none", "%s%s%n",
	"%p", "*", "=", "==", "mode=", "=concurrent", "-", "--", "0", "\\0", "$(reboot)", ";", "'", "\"", "active",
	"\xc3\xa9" "dition", "\xe2\x80\x8bselftest", "r\xd0\xb0ndom", "\xf0\x9f\x92\xa5", "dynamos", "editions", "a b", "",
};

static const char *const odd_numbers[] = {
	"0", "1", "-1", "+1", "2", "99", "100", "59999", "60000", "60001", "999999", "1000000", "1000001", "3599999",
	"3600000", "3600001", "4194304", "4194305", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295",
	"4294967296", "18446744073709551615", "18446744073709551616", "99999999999999999999999999", "0x10", "010", "1e3",
	"1.5", "", "+", "-", "++1", "1 ", " 1", "1\n", "0000000000000000000000000000000000000000000000000001", "one",
	"\xd9\xa1", "1/1", "NaN",
};

static const char *const odd_scopes[] = {
	"cpus:", "cpus:0-", "cpus:-0", "cpus:1-0", "cpus:4000", "cpus:0,,1", "cpus:0-1:1/2", "cpus:all", "cpus:N", "cpus:x",
	"cpus:99999999999999999999", "cpus", "cpu:0", "CPUS:0", "task:", "task:0", "task:-1", "task:self", "task:4194305",
	"task:2147483648", "task", "cgroup:", "cgroup:nosuch", "cgroup:/nosuch", "cgroup:/../..", "cgroup://", "cgroup",
	"share:", "share:1", "share:1/", "share:1/0", "share:2/3", "share:1/1000001", "share:0/1", "share:1/-1", "share",
	"handler:", "handler:1", "handlers", ":", "moon:1", "",
};

static const char *const tokens[] = {
	" ", "\t", "=", "mode=", "mode=scoped", "mode=exclusive", "mode=per-object", "timeout_ms=", "timeout_ms=1", "scope=",
	"scope=cpus:0", "objects=keep", "objects=", "action=hold", "baseline=", "grace_ms=0", "ttl_ms=100", "switch", "set",
	"who", "lease", "clear", "readahead", "selftest", "original", "random", "\n", "\r\n", "\n\n", "\xff", "\x80", "\"",
	"\x1b[2J", "factor=4", "mode", "%n",
};

static void add_bytes(struct line *to, const char *bytes, size_t length)
{
	if (length > LINE_MOST - to->length)
		length = LINE_MOST - to->length;
	memcpy(to->bytes + to->length, bytes, length);
	to->length += length;
}

static void add(struct line *to, const char *text)
{
	add_bytes(to, text, strlen(text));
}

/* Where a mistake is made, on purpose. */
static bool slips(void)
{
	return one_in(mixed ? 40 : 9);
}

static void add_number(struct line *to, size_t least, size_t most)
{
	char text[32];

	if (slips()) {
		add(to, PICK(odd_numbers));
		return;
	}
	snprintf(text, sizeof(text), "%zu", least + below(most - least + 1));
	add(to, text);
}

static void add_edition(struct line *to, const struct named *subsystem)
{
	size_t count = 0;

	while (subsystem->editions[count])
		count++;
	add(to, " ");
	add(to, slips() ? PICK(odd_names) : subsystem->editions[below(count)]);
}

static const struct named *add_subsystem(struct line *to)
{
	const struct named *subsystem = &PICK(subsystems);

	add(to, " ");
	add(to, slips() ? PICK(odd_names) : subsystem->subsystem);
	return subsystem;
}

static void add_scope(struct line *to)
{
	char text[32];

	if (slips()) {
		add(to, PICK(odd_scopes));
		return;
	}
	switch (below(5)) {
	case 0:
		add(to, one_in(2) ? "cpus:0" : "cpus:0-1");
		return;
	case 1:
		snprintf(text, sizeof(text), "task:%d", one_in(2) ? pid : 1);
		add(to, text);
		return;
	case 2:
		add(to, "cgroup:/");
		return;
	case 3:
		add(to, "share:1/");
		add_number(to, 1, 1000000);
		return;
	default:
		add(to, "handler");
	}
}

/* Most have a mode that is quick: the others wait for every task to have left the kernel's text. */
static void add_mode(struct line *to)
{
	size_t mode = one_in(mixed ? 12 : 2) ? 1 + below(3) : 0;

	add(to, " mode=");
	add(to, slips() ? PICK(odd_names) : modes[mode]);
	if (mode == 1 || slips()) {
		add(to, " timeout_ms=");
		add_number(to, 1, 200);
	}
	if (mode == 2 || slips()) {
		add(to, " objects=");
		add(to, slips() ? PICK(odd_names) : one_in(2) ? "keep" : "migrate");
	}
	if (mode == 3 || slips()) {
		add(to, " scope=");
		add_scope(to);
	}
}

static void make_switch(struct line *to)
{
	add_edition(to, add_subsystem(to));
	if (one_in(2))
		add_mode(to);
}

static void make_set(struct line *to)
{
	const struct parameter *parameter = &PICK(parameters);
	const char *const part[] = { parameter->subsystem, parameter->edition, parameter->name };
	size_t i;

	for (i = 0; i < COUNT(part); i++) {
		add(to, " ");
		add(to, slips() ? PICK(odd_names) : part[i]);
	}
	add(to, "=");
	add_number(to, 0, 8);
}

static void make_who(struct line *to)
{
	add_subsystem(to);
}

static void make_edition(struct line *to)
{
	add_edition(to, add_subsystem(to));
}

static void make_lease(struct line *to)
{
	const struct named *subsystem = add_subsystem(to);

	if (one_in(3))
		add(to, one_in(2) ? " action=hold" : " action=baseline");
	if (one_in(3)) {
		add(to, " baseline=");
		add(to, slips() ? PICK(odd_names) : subsystem->editions[below(3)]);
	}
	if (one_in(2)) {
		add(to, " grace_ms=");
		add_number(to, 0, 1000);
	}
	if (one_in(2)) {
		add(to, " ttl_ms=");
		add_number(to, 100, 1000);
	}
}

static void make_command(struct line *to)
{
	/* By verb; `switch` is worth more than the others together. */
	static void (*const makers[])(struct line *to) = {
		make_switch, make_set, make_who, make_edition, make_edition, make_lease, make_who,
	};
	size_t verb = one_in(2) ? 0 : below(COUNT(verbs));

	add(to, slips() ? PICK(odd_names) : verbs[verb]);
	makers[verb](to);
	if (one_in(4))
		add(to, "\n");
}

static void make_random(struct line *to)
{
	size_t length = below(one_in(4) ? 300 : 40);
	bool printable = one_in(2);
	char byte;

	while (length--) {
		byte = printable ? ' ' + below(95) : below(256);
		add_bytes(to, &byte, 1);
	}
}

static void make_words(struct line *to)
{
	size_t count = below(12);

	while (count--) {
		add(to, one_in(3) ? PICK(odd_names) : one_in(2) ? PICK(tokens) : PICK(verbs));
		add(to, one_in(8) ? "\t" : " ");
	}
}

/* ------------------------------------------------------------------------------------------------------ mutations */

static void cut_out(struct line *of, size_t at, size_t length)
{
	memmove(of->bytes + at, of->bytes + at + length, of->length - at - length);
	of->length -= length;
}

static void put_in(struct line *to, size_t at, const char *bytes, size_t length)
{
	if (length > LINE_MOST - to->length)
		return;
	memmove(to->bytes + at + length, to->bytes + at, to->length - at);
	memcpy(to->bytes + at, bytes, length);
	to->length += length;
}

/* Some place in the line, its end among them. */
static size_t place(const struct line *in)
{
	return below(in->length + 1);
}

/* From a place to the next blank, or the end. */
static size_t word_length(const struct line *in, size_t at)
{
	size_t end = at;

	while (end < in->length && in->bytes[end] != ' ')
		end++;
	return end - at;
}

static void flip(struct line *of)
{
	if (of->length)
		of->bytes[below(of->length)] ^= 1 << below(8);
}

static void insert_byte(struct line *to)
{
	char byte = one_in(2) ? below(256) : ' ' + below(95);

	put_in(to, place(to), &byte, 1);
}

static void insert_token(struct line *to)
{
	const char *token = one_in(2) ? PICK(tokens) : PICK(odd_numbers);

	put_in(to, place(to), token, strlen(token));
}

static void delete_byte(struct line *from)
{
	if (from->length)
		cut_out(from, below(from->length), 1);
}

static void delete_some(struct line *from)
{
	size_t at = place(from);

	cut_out(from, at, one_in(2) ? word_length(from, at) : below(from->length - at + 1));
}

static void truncate_line(struct line *of)
{
	of->length = place(of);
}

static void duplicate(struct line *of)
{
	char copy[COMMAND_MAX];
	size_t at = place(of), length = one_in(2) ? word_length(of, at) : below(of->length - at + 1);

	if (length > sizeof(copy))
		length = sizeof(copy);
	memcpy(copy, of->bytes + at, length);
	put_in(of, place(of), copy, length);
}

/* The last option, or word, once more. */
static void repeat_word(struct line *of)
{
	char copy[COMMAND_MAX];
	size_t at = of->length, length;

	while (at && of->bytes[at - 1] != ' ')
		at--;
	length = of->length - at;
	if (!at || length > sizeof(copy))
		return;
	memcpy(copy, of->bytes + at, length);
	add(of, " ");
	add_bytes(of, copy, length);
}

static void splice(struct line *with)
{
	static struct line other;
	size_t at;

	other.length = 0;
	make_command(&other);
	truncate_line(with);
	at = place(&other);
	add_bytes(with, other.bytes + at, other.length - at);
}

/* To a length at a limit, by blanks, or by a word that gets long. */
static void pad(struct line *to)
{
	static const size_t lengths[] = { 254, 255, 255, 255, 256, 256, 257, 4095, 4096, 4097, 65536 };
	size_t length = PICK(lengths);
	bool newline = one_in(4);

	if (to->length >= length)
		return;
	memset(to->bytes + to->length, one_in(2) ? ' ' : 'x', length - to->length);
	to->length = length;
	if (newline)
		to->bytes[length - 1] = '\n';
}

static void reblank(struct line *of)
{
	size_t i;

	for (i = 0; i < of->length; i++)
		if (of->bytes[i] == ' ' && one_in(2))
			of->bytes[i] = '\t';
	put_in(of, 0, "  ", below(3));
}

static void upper(struct line *of)
{
	size_t i = place(of);

	for (; i < of->length && of->bytes[i] != ' '; i++)
		of->bytes[i] = toupper((unsigned char)of->bytes[i]);
}

static void mutate(struct line *of)
{
	static void (*const ways[])(struct line *of) = {
		flip, flip, insert_byte, insert_byte, insert_token, insert_token, delete_byte, delete_byte, delete_some,
		truncate_line, duplicate, repeat_word, splice, pad, reblank, upper,
	};

	PICK(ways)(of);
}

/* One byte that no command has, somewhere; at the end, a newline would be none. */
static void spoil(struct line *of)
{
	static const unsigned char bad[] = { 0, 1, '\n', '\r', 0x1b, '"', 0x7f, 0x80, 0xa0, 0xff };
	char byte = PICK(bad);

	put_in(of, below(of->length), &byte, 1);
}

static void make_line(struct line *to)
{
	size_t mutations = below(4);

	to->length = 0;
	if (one_in(12))
		make_random(to);
	else if (one_in(12))
		make_words(to);
	else
		make_command(to);
	while (mutations--)
		mutate(to);
	if (!mixed && !judge(to).must)
		spoil(to);
}

/* -------------------------------------------------------------------------------------------------------- events */

/* What the events say that came since the last look. */
struct said {
	unsigned int refusals;	/* ours */
	unsigned int switches;	/* ours */
	unsigned int effects;	/* ours, and no refusal */
	bool lost;
	bool by_itself;		/* something may have changed without a command */
	int error;		/* of the last refusal */
	char text[512];		/* of it: command and reason */
};

static char events[EVENTS_BYTES + 1];
static uint64_t next_seq;
static struct {
	uint64_t taken, switches, by_itself, lost, unseen, errors[COUNT(documented)];
} total;

/* By subsystem: its lease has expired, and ends when the baseline is reached, of which no event tells. */
static bool ending[COUNT(subsystems)];

static bool is_event(const char *text, const char *name)
{
	size_t length = strlen(name);

	text = strstr(text, " event=");
	return text && !strncmp(text + 7, name, length) && text[7 + length] == ' ';
}

/* A number after a key, before the first quote; -1 when there is none. */
static long value_of(const char *text, const char *key)
{
	const char *at = strstr(text, key), *quote = strchr(text, '"');

	return at && (!quote || at < quote) ? strtol(at + strlen(key), NULL, 10) : -1;
}

static void check_seq(const char *text, struct said *said)
{
	uint64_t seq = strtoull(text + 4, NULL, 10);
	long count;

	if (strncmp(text, "seq=", 4))
		fail("not an event: %s", text);
	if (!seq) {
		count = value_of(text, " count=");
		if (count <= 0)
			fail("how many were lost is not said: %s", text);
		said->lost = true;
		total.lost += count;
		next_seq += next_seq ? count : 0;
		return;
	}
	if (next_seq && seq != next_seq)
		fail("seq %llu was expected: %s", (unsigned long long)next_seq, text);
	next_seq = seq + 1;
}

static void take_lease(const char *text)
{
	bool expired = is_event(text, "lease_expired");
	char key[32];
	size_t i;

	if (!expired && !is_event(text, "leased") && !is_event(text, "released"))
		return;
	for (i = 0; i < COUNT(subsystems); i++) {
		snprintf(key, sizeof(key), " subsystem=%s ", subsystems[i].subsystem);
		if (strstr(text, key))
			ending[i] = expired;
	}
}

static void take_event(const char *text, struct said *said)
{
	long by = value_of(text, " by=");

	check_seq(text, said);
	take_lease(text);
	if (is_event(text, "refused")) {
		if (by != pid)
			return;
		said->refusals++;
		said->error = value_of(text, " errno=");
		snprintf(said->text, sizeof(said->text), "%s", strchr(text, '"') ?: "");
		return;
	}
	/* A lease is lost in its own time, and names who held it. */
	if (by == pid && !is_event(text, "lease_lost")) {
		said->effects++;
		said->switches += is_event(text, "switched");
	}
	if (!by || is_event(text, "completed") || is_event(text, "lease_lost") || is_event(text, "lease_expired")) {
		said->by_itself = true;
		total.by_itself += is_event(text, "switched");
	}
}

static void listen(struct said *said)
{
	char *text, *end;
	ssize_t length;

	while ((length = read(device, events, EVENTS_BYTES)) > 0) {
		events[length] = '\0';
		if (events[length - 1] != '\n')
			fail("not whole lines of events");
		for (text = events; *text; text = end + 1) {
			end = strchr(text, '\n');
			if (!end)
				fail("a NUL in an event");
			*end = '\0';
			take_event(text, said);
		}
	}
	if (length < 0 && errno != EAGAIN)
		fail("reading events: %s", strerror(errno));
}

/* The event that a refusal must have, from the first quote on. */
static void check_text(const char *text, int error)
{
	char shown[COMMAND_MAX + 1], start[COMMAND_MAX + 32];
	size_t length;

	if (error == EFAULT || error == E2BIG || !to_text(&line, shown))
		strcpy(shown, "?");
	snprintf(start, sizeof(start), "\"%.*s\" reason=\"", COMMAND_SHOWN, shown);
	length = strlen(start);
	if (strncmp(text, start, length))
		fail("the event shows another command: %s", text);
	text += length;
	length = strlen(text);
	if (length < 3 || strchr(text, '"') != text + length - 1)
		fail("the event has no reason: %s", text);
}

/* ---------------------------------------------------------------------------------------------------------- sysfs */

static glob_t files;
static char (*contents)[COMMAND_MAX + 1];
static int *descriptors;

/* What only a command changes, or what is told by an event. */
static void find_files(void)
{
	static const char *const patterns[] = {
		SYSFS "*/active", SYSFS "*/partial", SYSFS "*/mode", SYSFS "*/scope", SYSFS "*/switches",
		SYSFS "*/lease", SYSFS "*/lease_holder", SYSFS "*/editions/*/quarantine", SYSFS "*/editions/*/modes",
		SYSFS "*/editions/*/parameters/factor", SYSFS "*/editions/*/parameters/refuse_*",
	};
	size_t i;

	for (i = 0; i < COUNT(patterns); i++)
		glob(patterns[i], i ? GLOB_APPEND : 0, NULL, &files);
	contents = calloc(files.gl_pathc, sizeof(*contents));
	descriptors = calloc(files.gl_pathc, sizeof(*descriptors));
	for (i = 0; i < files.gl_pathc; i++) {
		descriptors[i] = open(files.gl_pathv[i], O_RDONLY | O_CLOEXEC);
		if (descriptors[i] < 0)
			fail("%s: %s", files.gl_pathv[i], strerror(errno));
	}
}

/* Does a file tell now that a lease which had expired is over? */
static bool is_ended(const char *path, const char *now)
{
	char start[64];
	size_t i;

	if (strcmp(now, "none\n") && strcmp(now, "0\n"))
		return false;
	for (i = 0; i < COUNT(subsystems); i++) {
		snprintf(start, sizeof(start), SYSFS "%s/lease", subsystems[i].subsystem);
		if (ending[i] && !strncmp(path, start, strlen(start)))
			return true;
	}
	return false;
}

/* Return: a file that has changed since the last look, or NULL. */
static const char *look(void)
{
	const char *changed = NULL;
	char now[COMMAND_MAX + 1];
	ssize_t length;
	size_t i;

	for (i = 0; i < files.gl_pathc; i++) {
		length = pread(descriptors[i], now, COMMAND_MAX, 0);
		if (length < 0)
			fail("%s: %s", files.gl_pathv[i], strerror(errno));
		now[length] = '\0';
		if (strcmp(now, contents[i]) && !is_ended(files.gl_pathv[i], now))
			changed = files.gl_pathv[i];
		strcpy(contents[i], now);
	}
	return changed;
}

/* After a refusal. What goes on by itself is told, but perhaps a moment later. */
static void check_sysfs(struct said *said)
{
	const char *changed;
	int waits;

	if (!mixed && number % LOOK_EVERY && number != lines)
		return;
	changed = look();
	if (!changed || (mixed && !alone))
		return;
	for (waits = 0; waits < EVENT_WAITS && !said->by_itself; waits++) {
		usleep(EVENT_WAIT_US);
		listen(said);
	}
	if (!said->by_itself)
		fail("%s has changed since line %llu", changed,
		     (unsigned long long)(mixed ? number - 1 : (number - 1) / LOOK_EVERY * LOOK_EVERY));
	look();
}

/* ------------------------------------------------------------------------------------------------------- writing */

struct answer {
	int error;		/* 0: taken */
	bool unseen;		/* the kernel refused it before the module saw it */
};

static struct answer answer_of(ssize_t written)
{
	struct answer answer = { 0, false };

	if (written < 0)
		answer.error = errno;
	else if ((size_t)written != line.length)
		fail("%zd bytes were taken", written);
	return answer;
}

static struct answer write_plain(struct verdict *verdict)
{
	(void)verdict;
	return answer_of(write(device, line.bytes, line.length));
}

static struct answer write_somewhere(struct verdict *verdict)
{
	(void)verdict;
	return answer_of(pwrite(device, line.bytes, line.length, below(SIZE_MAX) & LLONG_MAX));
}

/* The last byte is the last that can be read. */
static struct answer write_at_end(struct verdict *verdict)
{
	if (line.length > page)
		return write_plain(verdict);
	memcpy(memory + page - line.length, line.bytes, line.length);
	return answer_of(write(device, memory + page - line.length, line.length));
}

/* Some of it, or all, cannot be read. */
static struct answer write_unreadable(struct verdict *verdict)
{
	size_t readable = below(line.length ?: 1);

	if (!line.length || line.length > COMMAND_MAX)
		return write_plain(verdict);
	memcpy(memory + page - readable, line.bytes, readable);
	verdict->must = bit(EFAULT);
	verdict->may = 0;
	return answer_of(write(device, memory + page - readable, line.length));
}

static struct answer write_from_nowhere(struct verdict *verdict)
{
	static const uintptr_t places[] = { 0, 1, 0xffff888000000000, 0xffffffff81000000, UINTPTR_MAX - 512 };
	uintptr_t from = PICK(places);
	struct answer answer;

	if (!line.length || line.length > COMMAND_MAX)
		return write_plain(verdict);
	verdict->must = bit(EFAULT);
	verdict->may = 0;
	answer = answer_of(write(device, (const void *)from, line.length));
	answer.unseen = from > LONG_MAX;
	return answer;
}

/* More than there is: it is not read. */
static struct answer write_much(struct verdict *verdict)
{
	struct answer answer;
	size_t length = line.length;

	line.length = COMMAND_MAX + 1 + below(INT_MAX - 2 * page);
	verdict->must = bit(E2BIG);
	verdict->may = 0;
	answer = answer_of(write(device, memory, line.length));
	line.length = length;
	return answer;
}

/* Each part is a command of its own. The first is refused, and those behind it are not looked at. */
static struct answer write_parts(struct verdict *verdict)
{
	static char more[] = "switch selftest b", most[] = "set readahead streaming factor=9";
	struct iovec parts[] = {
		{ line.bytes, line.length }, { more, strlen(more) }, { memory + page, 9 }, { most, strlen(most) },
	};

	if (!line.length || !verdict->must)
		return write_plain(verdict);
	return answer_of(writev(device, parts, 1 + below(COUNT(parts))));
}

static struct answer write_line(struct verdict *verdict)
{
	static struct answer (*const ways[])(struct verdict *verdict) = {
		write_somewhere, write_at_end, write_at_end, write_unreadable, write_unreadable, write_from_nowhere,
		write_parts, write_parts,
	};

	if (one_in(200))
		return write_much(verdict);
	return one_in(8) ? PICK(ways)(verdict) : write_plain(verdict);
}

/* ------------------------------------------------------------------------------------------------------- checking */

static void check_error(int error, const struct verdict *verdict)
{
	unsigned int right = verdict->must ? verdict->must | verdict->may : UINT_MAX;

	if (!bit(error))
		fail("%s (%d) is not documented", strerror(error), error);
	if (!(bit(error) & right))
		fail("%s (%d) does not fit", strerror(error), error);
	total.errors[__builtin_ctz(bit(error))]++;
}

static void check_refused(const struct answer *answer, struct said *said)
{
	if (said->effects)
		fail("refused (%d), and yet there is an event that says it was done", answer->error);
	if (said->refusals != !answer->unseen && !(said->lost && !said->refusals))
		fail("refused (%d), with %u events that say so", answer->error, said->refusals);
	if (said->refusals && said->error != answer->error)
		fail("refused (%d), and the event has errno %d", answer->error, said->error);
	if (said->refusals)
		check_text(said->text, answer->error);
	check_sysfs(said);
}

static void check_taken(const struct verdict *verdict, const struct said *said)
{
	if (verdict->must)
		fail("it is no command, and was taken");
	if (said->refusals)
		fail("it was taken, and yet there is an event that says it was refused");
	if (said->switches > 1)
		fail("%u switches by one command", said->switches);
	total.taken++;
	total.switches += said->switches;
	look();
}

static void fuzz(void)
{
	struct said said = { 0 };
	struct verdict verdict;
	struct answer answer;

	make_line(&line);
	verdict = judge(&line);
	answer = write_line(&verdict);
	listen(&said);
	total.unseen += !answer.error ? 0 : said.lost;
	if (answer.error) {
		check_error(answer.error, &verdict);
		check_refused(&answer, &said);
	} else {
		check_taken(&verdict, &said);
	}
	if (said.by_itself)
		look();
}

/* Is a subsystem still on the way to the baseline of a lease that has expired? */
static bool is_under_way(void)
{
	struct said said = { 0 };
	char path[64];
	size_t i, j;

	listen(&said);
	look();
	for (i = 0; i < COUNT(subsystems); i++) {
		snprintf(path, sizeof(path), SYSFS "%s/lease", subsystems[i].subsystem);
		for (j = 0; ending[i] && j < files.gl_pathc; j++)
			if (!strcmp(files.gl_pathv[j], path) && strcmp(contents[j], "none\n"))
				return true;
	}
	return false;
}

/* Nothing is left that would act later, or forbid anything; and what was done by itself is counted. */
static void tidy(void)
{
	struct said said = { 0 };
	char text[64];
	size_t i, j;
	int waits;

	/* Where somebody else is inside, it may never come to an end. */
	for (waits = 0; alone && waits < EVENT_WAITS && is_under_way(); waits++)
		usleep(EVENT_WAIT_US);
	for (i = 0; i < COUNT(subsystems); i++) {
		snprintf(text, sizeof(text), "release %s", subsystems[i].subsystem);
		if (write(device, text, strlen(text)) < 0)
			continue;
		for (j = 0; subsystems[i].editions[j]; j++) {
			snprintf(text, sizeof(text), "clear %s %s", subsystems[i].subsystem, subsystems[i].editions[j]);
			if (write(device, text, strlen(text)) < 0)
				continue;
		}
	}
	listen(&said);
}

/* --------------------------------------------------------------------------------------------------------- main */

static void start(char *argv[])
{
	struct said said = { 0 };

	mixed = !strcmp(argv[1], "mixed");
	alone = !strcmp(argv[4], "alone");
	seed = strtoull(argv[2], NULL, 10);
	lines = strtoull(argv[3], NULL, 10);
	/* Seeds that are alike make dice that are not; 0 would make none. */
	state = (seed + 1) * 0x9E3779B97F4A7C15ULL ?: 1;
	pid = getpid();
	page = sysconf(_SC_PAGESIZE);
	memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || mprotect(memory + page, page, PROT_NONE))
		fail("memory: %s", strerror(errno));
	device = open(DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (device < 0 || lseek(device, 0, SEEK_END) < 0)
		fail("%s: %s", DEVICE, strerror(errno));
	find_files();
	look();
	listen(&said);
}

static void print_totals(void)
{
	uint64_t refused = 0;
	size_t i;

	for (i = 0; i < COUNT(documented); i++)
		refused += total.errors[i];
	printf("seed=%llu lines=%llu refused=%llu taken=%llu switches=%llu by_itself=%llu lost=%llu unseen=%llu",
	       (unsigned long long)seed, (unsigned long long)lines, (unsigned long long)refused,
	       (unsigned long long)total.taken, (unsigned long long)total.switches,
	       (unsigned long long)total.by_itself, (unsigned long long)total.lost, (unsigned long long)total.unseen);
	for (i = 0; i < COUNT(documented); i++)
		printf(" %s=%llu", documented[i].name, (unsigned long long)total.errors[i]);
	putchar('\n');
}

int main(int argc, char *argv[])
{
	if (argc != 5) {
		fprintf(stderr, "usage: fuzz_device invalid|mixed SEED LINES alone|together\n");
		return 2;
	}
	start(argv);
	for (number = 1; number <= lines; number++)
		fuzz();
	tidy();
	print_totals();
	return 0;
}
