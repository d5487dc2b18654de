// SPDX-License-Identifier: GPL-2.0
/*
 * device.c - /dev/dynamos: commands in, event lines out
 *
 * Who may open the node may command; the node is root's. The parser takes any bytes: a command is one short line of
 * printable ASCII words, and everything else is refused before it means anything.
 */
#include <linux/ctype.h>
#include <linux/bitops.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "event.h"

#define COMMAND_MAX 255
#define COMMAND_WORDS 8
#define TIMEOUT_MS 1000
#define TIMEOUT_MAX_MS 60000

struct reader {
	struct mutex lock;		/* of the two below; one read() at a time */
	u64 seq;
	struct event_line line;
};

void request_reason(struct request *request, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vscnprintf(request->reason, sizeof(request->reason), format, args);
	va_end(args);
}

/* -------------------------------------------------------------------------------------------------- commands */

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

static int take_mode(const char *value, struct switch_options *options, struct request *request)
{
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

static int take_timeout(const char *value, struct switch_options *options, struct request *request)
{
	if (!kstrtouint(value, 10, &options->timeout_ms) &&
	    options->timeout_ms >= 1 && options->timeout_ms <= TIMEOUT_MAX_MS)
		return 0;
	request_reason(request, "timeout_ms is 1 to %d, not %s", TIMEOUT_MAX_MS, value);
	return -EINVAL;
}

static int take_scope(const char *value, struct switch_options *options, struct request *request)
{
	options->scope = value;
	return 0;
}

static int take_objects(const char *value, struct switch_options *options, struct request *request)
{
	options->keep = !strcmp(value, "keep");
	if (options->keep || !strcmp(value, "migrate"))
		return 0;
	request_reason(request, "objects is migrate or keep, not %s", value);
	return -EINVAL;
}

/* An option, and the one mode that it is for; MODES: any. */
static const struct {
	const char *key;
	int mode;
	int (*take)(const char *value, struct switch_options *options, struct request *request);
} switch_keys[] = {
	{ "mode", MODES, take_mode },
	{ "timeout_ms", MODE_EXCLUSIVE, take_timeout },
	{ "scope", MODE_SCOPED, take_scope },
	{ "objects", MODE_PER_OBJECT, take_objects },
};

static int find_key(const char *option, const char **value)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(switch_keys); i++) {
		*value = value_of(option, switch_keys[i].key);
		if (*value)
			return i;
	}
	return -1;
}

static int take_options(char *words[], int count, struct switch_options *options, struct request *request)
{
	unsigned long seen = 0;
	const char *value;
	int i, key, err;

	for (i = 0; i < count; i++) {
		key = find_key(words[i], &value);
		if (key < 0) {
			request_reason(request, "unknown option %s", words[i]);
			return -EINVAL;
		}
		if (__test_and_set_bit(key, &seen)) {
			request_reason(request, "option %s twice", switch_keys[key].key);
			return -EINVAL;
		}
		err = switch_keys[key].take(value, options, request);
		if (err)
			return err;
	}
	for_each_set_bit(key, &seen, ARRAY_SIZE(switch_keys)) {
		if (switch_keys[key].mode == MODES || switch_keys[key].mode == options->mode)
			continue;
		/* Without a mode, a timeout is for the case that it becomes an exclusive one. */
		if (switch_keys[key].mode == MODE_EXCLUSIVE && options->mode == MODES)
			continue;
		request_reason(request, "option %s is for mode %s", switch_keys[key].key,
			       mode_name(switch_keys[key].mode));
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
	err = take_options(words + 3, count - 3, &options, request);
	if (err)
		return err;
	return switch_edition(words[1], words[2], &options, request);
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
};

static int command_run(char *line, struct request *request)
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
static int line_check(char *line, size_t length)
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

/* Takes what was written and does it. @shown: gets the line, once it is known to be one. */
static int command_take(const char __user *from, size_t length, char *shown, struct request *request)
{
	char line[COMMAND_MAX + 1];
	int err;

	if (length > COMMAND_MAX) {
		request_reason(request, "a command is at most %d bytes", COMMAND_MAX);
		return -E2BIG;
	}
	if (copy_from_user(line, from, length)) {
		request_reason(request, "the command could not be read");
		return -EFAULT;
	}
	line[length] = '\0';
	err = line_check(line, length);
	if (err) {
		request_reason(request, "not one line of printable ASCII");
		return err;
	}
	strscpy(shown, line, COMMAND_MAX + 1);
	return command_run(line, request);
}

static ssize_t device_write(struct file *file, const char __user *from, size_t length, loff_t *pos)
{
	struct request request = { .by = task_tgid_nr(current), .start_ns = ktime_get_ns() };
	char shown[COMMAND_MAX + 1] = "?";
	int err;

	err = command_take(from, length, shown, &request);
	if (!err)
		return length;
	event_refused(&request, err, "%s", shown);
	return err;
}

/* ---------------------------------------------------------------------------------------------------- events */

/* Copies whole lines until the buffer or the ring is at its end. Return: bytes, 0 when there is no line. */
static ssize_t read_lines(struct reader *reader, char __user *to, size_t room)
{
	size_t done = 0;
	u64 after;

	for (;;) {
		after = event_next(reader->seq, &reader->line);
		if (after == reader->seq)
			return done;
		if (reader->line.length > room - done)
			return done ?: -EINVAL;
		if (copy_to_user(to + done, reader->line.text, reader->line.length))
			return done ?: -EFAULT;
		done += reader->line.length;
		reader->seq = after;
	}
}

static ssize_t device_read(struct file *file, char __user *to, size_t room, loff_t *pos)
{
	struct reader *reader = file->private_data;
	ssize_t done;
	int err;

	do {
		if (mutex_lock_interruptible(&reader->lock))
			return -ERESTARTSYS;
		done = read_lines(reader, to, room);
		mutex_unlock(&reader->lock);
		if (done)
			return done;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		err = wait_event_interruptible(event_wait, event_end() > READ_ONCE(reader->seq));
	} while (!err);
	return err;
}

static __poll_t device_poll(struct file *file, poll_table *wait)
{
	struct reader *reader = file->private_data;
	__poll_t ready = EPOLLOUT | EPOLLWRNORM;

	poll_wait(file, &event_wait, wait);
	if (event_end() > READ_ONCE(reader->seq))
		ready |= EPOLLIN | EPOLLRDNORM;
	return ready;
}

/* To the first event that is still there, or behind the last one; nothing in between has a place. */
static loff_t device_llseek(struct file *file, loff_t offset, int whence)
{
	struct reader *reader = file->private_data;

	if (offset || (whence != SEEK_SET && whence != SEEK_END))
		return -EINVAL;
	mutex_lock(&reader->lock);
	WRITE_ONCE(reader->seq, whence == SEEK_END ? event_end() : event_begin());
	mutex_unlock(&reader->lock);
	return 0;
}

static int device_open(struct inode *inode, struct file *file)
{
	struct reader *reader;

	reader = kzalloc(sizeof(*reader), GFP_KERNEL);
	if (!reader)
		return -ENOMEM;
	mutex_init(&reader->lock);
	reader->seq = event_begin();
	file->private_data = reader;
	return 0;
}

static int device_release(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

static const struct file_operations device_operations = {
	.owner = THIS_MODULE,
	.open = device_open,
	.release = device_release,
	.read = device_read,
	.write = device_write,
	.poll = device_poll,
	.llseek = device_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "dynamos",
	.mode = 0600,
	.fops = &device_operations,
};

int device_start(void)
{
	return misc_register(&device);
}

void device_stop(void)
{
	misc_deregister(&device);
}
