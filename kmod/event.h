/* SPDX-License-Identifier: GPL-2.0 */
/* event.h - between the ring of event lines and the device that hands them out */
#ifndef _DYNAMOS_EVENT_H
#define _DYNAMOS_EVENT_H

#include <linux/types.h>
#include <linux/wait.h>

#include "core.h"

#define EVENT_RING 256
#define EVENT_TEXT 512

struct event_line {
	unsigned int length;
	char text[EVENT_TEXT];		/* ends with a newline, not with NUL */
};

extern wait_queue_head_t event_wait;	/* woken at each event */

u64 event_begin(void);
u64 event_end(void);
u64 event_next(u64 seq, struct event_line *line);

#endif /* _DYNAMOS_EVENT_H */
