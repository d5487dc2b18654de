// SPDX-License-Identifier: GPL-2.0
/*
 * event.c - the ring of event lines
 *
 * The last 256 events, as the text that readers of /dev/dynamos get. A writer never waits for a reader: the oldest
 * line is overwritten, and a reader that comes too late is told how many it lost.
 */
#include <linux/ctype.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/poll.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/time64.h>

#include <dynamos/trace.h>

#include "event.h"

/* As much of a refused command as its event shows, so that the reason has room. */
#define COMMAND_SHOWN 120

static DEFINE_SPINLOCK(event_lock);		/* everything below; taken with interrupts off, nothing inside it */
static struct event_line ring[EVENT_RING];
static u64 next_seq = 1;

DECLARE_WAIT_QUEUE_HEAD(event_wait);

/**
 * event_emit() - add an event
 * @name: what happened, one word
 * @format: the keys and values that go with it; a line that gets too long is cut
 *
 * Context: any but NMI.
 */
void event_emit(const char *name, const char *format, ...)
{
	struct event_line *line;
	unsigned long flags;
	u64 seconds;
	u32 nanoseconds;
	va_list args;
	int length, start;

	spin_lock_irqsave(&event_lock, flags);
	seconds = div_u64_rem(ktime_get_ns(), NSEC_PER_SEC, &nanoseconds);
	line = &ring[next_seq % EVENT_RING];
	length = scnprintf(line->text, sizeof(line->text) - 1, "seq=%llu time=%llu.%09u event=%s ",
			   next_seq, seconds, nanoseconds, name);
	start = length;
	va_start(args, format);
	length += vscnprintf(line->text + length, sizeof(line->text) - 1 - length, format, args);
	va_end(args);
	/* Not ended yet: what is traced is the line's own text. */
	line->text[length] = '\0';
	trace_event_line(next_seq, name, line->text + start);
	line->text[length++] = '\n';
	line->length = length;
	next_seq++;
	spin_unlock_irqrestore(&event_lock, flags);
	wake_up_interruptible_poll(&event_wait, EPOLLIN | EPOLLRDNORM);
}

/**
 * event_refused() - say that something was refused, and why
 * @request: has who asked, and the sentence
 * @err: the errno, negative
 * @format: what was asked for
 */
void event_refused(const struct request *request, int err, const char *format, ...)
{
	char command[COMMAND_SHOWN + 1];
	va_list args;

	va_start(args, format);
	vscnprintf(command, sizeof(command), format, args);
	va_end(args);
	event_emit("refused", "by=%d errno=%d command=\"%s\" reason=\"%s\"",
		   request->by, -err, command, request_why(request, err));
}

/* A thread may call itself anything; in an event it has no quotes and nothing that is not printable ASCII. */
const char *printable_comm(char to[TASK_COMM_LEN], const char *comm)
{
	int i;

	for (i = 0; i < TASK_COMM_LEN - 1 && comm[i]; i++)
		to[i] = isascii(comm[i]) && isprint(comm[i]) && comm[i] != '"' ? comm[i] : '?';
	to[i] = '\0';
	return to;
}

static u64 oldest_seq(void)
{
	return next_seq > EVENT_RING ? next_seq - EVENT_RING : 1;
}

/* The oldest event that is still there: where a reader starts. */
u64 event_begin(void)
{
	unsigned long flags;
	u64 begin;

	spin_lock_irqsave(&event_lock, flags);
	begin = oldest_seq();
	spin_unlock_irqrestore(&event_lock, flags);
	return begin;
}

/* The number that the next event will have: where a reader stands that wants none of the past. */
u64 event_end(void)
{
	unsigned long flags;
	u64 end;

	spin_lock_irqsave(&event_lock, flags);
	end = next_seq;
	spin_unlock_irqrestore(&event_lock, flags);
	return end;
}

/**
 * event_next() - the next line for a reader
 * @seq: where the reader stands; a number that no event has yet means the end
 * @line: gets a copy
 *
 * Return: where the reader will stand after this line; *seq itself when there is none.
 */
u64 event_next(u64 seq, struct event_line *line)
{
	unsigned long flags;
	u64 oldest;

	spin_lock_irqsave(&event_lock, flags);
	oldest = oldest_seq();
	if (seq < oldest) {
		line->length = scnprintf(line->text, sizeof(line->text), "seq=0 time=0 event=lost count=%llu\n",
					 oldest - seq);
		seq = oldest;
	} else if (seq < next_seq) {
		*line = ring[seq % EVENT_RING];
		seq++;
	}
	spin_unlock_irqrestore(&event_lock, flags);
	return seq;
}
