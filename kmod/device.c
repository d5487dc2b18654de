// SPDX-License-Identifier: GPL-2.0
/*
 * device.c - /dev/dynamos: commands in, event lines out
 *
 * Who may open the node may command; the node is root's. What a line means is command.c's to know.
 */
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

struct reader {
	struct mutex lock;		/* of the two below; one read() at a time */
	u64 seq;
	struct event_line line;
};

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
	struct request request = {
		.by = task_tgid_nr(current),
		.file = file,
		.start_ns = ktime_get_ns(),
	};
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

	reader = failable(kzalloc(sizeof(*reader), GFP_KERNEL), NULL);
	if (!reader)
		return -ENOMEM;
	mutex_init(&reader->lock);
	reader->seq = event_begin();
	file->private_data = reader;
	return 0;
}

static int device_release(struct inode *inode, struct file *file)
{
	leases_drop(file);
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
	return failable(misc_register(&device), -ENOMEM);
}

void device_stop(void)
{
	misc_deregister(&device);
}
