// SPDX-License-Identifier: GPL-2.0
/*
 * dynamos_target - a module with functions to be gated, and the means to call them from user space
 *
 * It stands for any module of a running kernel: it has no part in dynamos and does not know whether it is gated.
 * Writing a line to /dev/dynamos_target carries out one command in the writer's own context, then reading the same open
 * file gives the result as one line. The commands are listed in README.md, beside this file.
 */
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "target_internal.h"

#define LINE_MAX_BYTES 127
#define MAX_WORDS 4

/* Limits that keep a command within the kernel's stack, and its end within reach. */
#define MAX_DEPTH 50
#define MAX_CALLS 1000000
#define MAX_MS 600000

struct target_file {
	struct mutex mutex;		/* protects result */
	char result[LINE_MAX_BYTES + 1];
};

/* A command's arguments. Those that are not numbers have only a word. */
struct arguments {
	int count;
	const char *words[MAX_WORDS];
	long numbers[MAX_WORDS];
};

/* Writes the result line into @out; what it returns is the write()'s error. */
typedef int run_fn(const struct arguments *arguments, char *out, size_t size);

static int say_number(char *out, size_t size, long result)
{
	scnprintf(out, size, "result=%ld\n", result);
	return 0;
}

static int run_value(const struct arguments *arguments, char *out, size_t size)
{
	return say_number(out, size, target_value(arguments->numbers[0]));
}

static int run_many(const struct arguments *arguments, char *out, size_t size)
{
	return say_number(out, size, target_many(1, 2, 3, 4, 5, 6, 7, 8, 9));
}

static int run_struct(const struct arguments *arguments, char *out, size_t size)
{
	struct target_quad quad = target_struct(arguments->numbers[0], arguments->numbers[1]);

	scnprintf(out, size, "sum=%ld difference=%ld a=%ld b=%ld\n", quad.sum, quad.difference, quad.a, quad.b);
	return 0;
}

static int run_pair(const struct arguments *arguments, char *out, size_t size)
{
	struct target_pair pair = target_pair(arguments->numbers[0], arguments->numbers[1]);

	scnprintf(out, size, "a=%ld b=%ld\n", pair.a, pair.b);
	return 0;
}

static int run_void(const struct arguments *arguments, char *out, size_t size)
{
	long counter = 0;

	target_void(&counter);
	return say_number(out, size, counter);
}

static int run_recurse(const struct arguments *arguments, char *out, size_t size)
{
	if (arguments->numbers[0] > MAX_DEPTH)
		return -ERANGE;
	return say_number(out, size, target_recurse(arguments->numbers[0]));
}

static int run_outer(const struct arguments *arguments, char *out, size_t size)
{
	return say_number(out, size, target_outer(arguments->numbers[0]));
}

static int run_tail(const struct arguments *arguments, char *out, size_t size)
{
	return say_number(out, size, target_tail(arguments->numbers[0]));
}

static int run_new(const struct arguments *arguments, char *out, size_t size)
{
	return target_create(arguments->numbers[0]) ?: say_number(out, size, 0);
}

static int run_free(const struct arguments *arguments, char *out, size_t size)
{
	return target_destroy(arguments->numbers[0]) ?: say_number(out, size, 0);
}

static int run_use(const struct arguments *arguments, char *out, size_t size)
{
	struct target_object *o = target_get(arguments->numbers[0]);

	if (!o)
		return -ENOENT;
	say_number(out, size, target_use(o));
	target_put(o);
	return 0;
}

static int run_block(const struct arguments *arguments, char *out, size_t size)
{
	struct target_object *o = target_get(arguments->numbers[0]);
	int ret;

	if (!o)
		return -ENOENT;
	ret = target_block(o, READ_ONCE(o->releases));
	target_put(o);
	return ret < 0 ? ret : say_number(out, size, ret);
}

static int run_release(const struct arguments *arguments, char *out, size_t size)
{
	int ret = 0;

	if (!strcmp(arguments->words[0], "all"))
		target_release_all();
	else
		ret = target_release(arguments->numbers[0]);
	return ret ?: say_number(out, size, 0);
}

static int run_flipping(const struct arguments *arguments, char *out, size_t size)
{
	return say_number(out, size, target_flipping());
}

static int run_waiting(const struct arguments *arguments, char *out, size_t size)
{
	return say_number(out, size, target_waiting());
}

static int run_wrong(const struct arguments *arguments, char *out, size_t size)
{
	return say_number(out, size, target_wrong());
}

static int run_atomic(const struct arguments *arguments, char *out, size_t size)
{
	struct target_atomic_run run = {};

	if (arguments->numbers[0] > MAX_CALLS)
		return -ERANGE;
	target_run_atomic(arguments->numbers[0], &run);
	scnprintf(out, size, "hard=%lu soft=%lu sum=%ld\n", run.hard, run.soft, run.sum);
	return 0;
}

static int run_interrupted(const struct arguments *arguments, char *out, size_t size)
{
	struct target_atomic_run run = {};

	if (arguments->numbers[0] > MAX_CALLS)
		return -ERANGE;
	target_run_interrupted(arguments->numbers[0], &run);
	scnprintf(out, size, "hard=%lu sum=%ld\n", run.hard, run.sum);
	return 0;
}

static int run_flip20(const struct arguments *arguments, char *out, size_t size)
{
	static const char *const directions[] = { [TARGET_UP] = "up", [TARGET_DOWN] = "down", [TARGET_BOTH] = "both" };
	struct target_flip_run run = {};
	int direction = TARGET_UP;

	if (arguments->count > 1)
		direction = match_string(directions, ARRAY_SIZE(directions), arguments->words[1]);
	if (direction < 0)
		return direction;
	if (arguments->numbers[0] > MAX_MS)
		return -ERANGE;
	target_run_flips(arguments->numbers[0], direction, &run);
	scnprintf(out, size, "calls=%lu changes=%lu violations=%lu last=%d\n",
		  run.calls, run.changes, run.violations, run.last);
	return 0;
}

static int run_spin(const struct arguments *arguments, char *out, size_t size)
{
	if (arguments->numbers[0] > MAX_CALLS)
		return -ERANGE;
	scnprintf(out, size, "ns=%llu\n", target_run_spin(arguments->numbers[0]));
	return 0;
}

static const struct command {
	const char *name;
	run_fn *run;
	int numbers;		/* arguments that must be numbers, not below zero; they come first */
	int words;		/* further ones that are words */
	int optional;		/* further ones that may be left out */
} commands[] = {
	{ "value", run_value, 1 },
	{ "many", run_many },
	{ "struct", run_struct, 2 },
	{ "pair", run_pair, 2 },
	{ "void", run_void },
	{ "recurse", run_recurse, 1 },
	{ "outer", run_outer, 1 },
	{ "tail", run_tail, 1 },
	{ "new", run_new, 1 },
	{ "free", run_free, 1 },
	{ "use", run_use, 1 },
	{ "block", run_block, 1 },
	{ "release", run_release, 0, 1 },
	{ "waiting", run_waiting },
	{ "flipping", run_flipping },
	{ "wrong", run_wrong },
	{ "atomic", run_atomic, 1 },
	{ "interrupted", run_interrupted, 1 },
	{ "flip20", run_flip20, 1, 0, 1 },
	{ "spin", run_spin, 1 },
};

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

/* Splits what is behind the command's name. A word that is no number counts as -1. */
static int split(char *rest, struct arguments *arguments)
{
	char *word;
	int number;

	while ((word = strsep(&rest, " "))) {
		if (arguments->count == MAX_WORDS)
			return -EINVAL;
		if (kstrtoint(word, 0, &number) || number < 0)
			number = -1;
		arguments->words[arguments->count] = word;
		arguments->numbers[arguments->count++] = number;
	}
	return 0;
}

static bool suits(const struct command *command, const struct arguments *arguments)
{
	int least = command->numbers + command->words;
	int i;

	if (arguments->count < least || arguments->count > least + command->optional)
		return false;
	for (i = 0; i < command->numbers; i++)
		if (arguments->numbers[i] < 0)
			return false;
	return true;
}

static int carry_out(char *line, char *out, size_t size)
{
	struct arguments arguments = {};
	const struct command *command;
	char *rest = line;
	int ret;

	command = find_command(strsep(&rest, " "));
	if (!command)
		return -EINVAL;
	ret = split(rest, &arguments);
	if (ret)
		return ret;
	return suits(command, &arguments) ? command->run(&arguments, out, size) : -EINVAL;
}

static void keep_result(struct target_file *target, const char *result)
{
	mutex_lock(&target->mutex);
	strscpy(target->result, result, sizeof(target->result));
	mutex_unlock(&target->mutex);
}

/* The file's lock is not held meanwhile: a command may take for ever. After a command that fails there is no result. */
static ssize_t target_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	char line[LINE_MAX_BYTES + 1], result[LINE_MAX_BYTES + 1] = "";
	int ret;

	if (count > LINE_MAX_BYTES)
		return -E2BIG;
	if (copy_from_user(line, buf, count))
		return -EFAULT;
	line[count] = '\0';
	ret = carry_out(strim(line), result, sizeof(result));
	keep_result(file->private_data, ret ? "" : result);
	/* The next read() begins at the result's first byte. */
	*ppos = 0;
	return ret ?: count;
}

static ssize_t target_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	struct target_file *target = file->private_data;
	ssize_t ret;

	mutex_lock(&target->mutex);
	ret = simple_read_from_buffer(buf, count, ppos, target->result, strlen(target->result));
	mutex_unlock(&target->mutex);
	return ret;
}

static int target_open(struct inode *inode, struct file *file)
{
	struct target_file *target = kzalloc(sizeof(*target), GFP_KERNEL);

	if (!target)
		return -ENOMEM;
	mutex_init(&target->mutex);
	file->private_data = target;
	return 0;
}

static int target_close(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

static const struct file_operations target_operations = {
	.owner = THIS_MODULE,
	.open = target_open,
	.release = target_close,
	.read = target_read,
	.write = target_write,
	.llseek = default_llseek,
};

static struct miscdevice target_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "dynamos_target",
	.fops = &target_operations,
	.mode = 0600,
};

static int __init target_init(void)
{
	return misc_register(&target_device);
}

static void __exit target_exit(void)
{
	misc_deregister(&target_device);
	target_destroy_all();
}

module_init(target_init);
module_exit(target_exit);

MODULE_AUTHOR("The dynamosd authors");
MODULE_DESCRIPTION("Functions to be gated by the self-test of dynamos");
MODULE_LICENSE("GPL");
