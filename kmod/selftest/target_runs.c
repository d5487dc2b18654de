// SPDX-License-Identifier: GPL-2.0
/* Commands of dynamos_target that call a gated function many times. */
#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

#include "target_internal.h"

/* Calls between two looks at the clock. */
#define FLIPS_AT_A_TIME 1000

#define SPIN_ROUNDS 10

/* Between two calls in an interrupt. */
#define INTERRUPT_NS (200 * NSEC_PER_USEC)

#define TARGET_FLIP_NAME(number) target_flip_##number
static int (*const flips[])(void) = { TARGET_FLIPS(TARGET_FLIP_NAME, TARGET_COMMA) };

/* Runs that have called all the functions, and go on. */
static atomic_t flipping;

/*
 * The functions take turns, so that each call is of another one than the call before. After one of them was entered in
 * a new edition, none may be entered in the old one again.
 */
static void flip_once(struct target_flip_run *run, enum target_direction direction)
{
	int now = flips[run->calls % ARRAY_SIZE(flips)]();

	if (run->calls++ && now != run->last) {
		run->changes++;
		if (direction == (now > run->last ? TARGET_DOWN : TARGET_UP))
			run->violations++;
	}
	run->last = now;
}

/* Who waits for one change has seen enough some time behind it. */
static unsigned long nearer_end(const struct target_flip_run *run, enum target_direction direction, unsigned long end)
{
	unsigned long soon = jiffies + HZ / 2;

	return direction != TARGET_BOTH && run->changes && time_before(soon, end) ? soon : end;
}

void target_run_flips(unsigned int ms, enum target_direction direction, struct target_flip_run *run)
{
	unsigned long end = jiffies + msecs_to_jiffies(ms);
	unsigned long changes;
	bool counted = false;
	int i;

	do {
		changes = run->changes;
		for (i = 0; i < FLIPS_AT_A_TIME; i++)
			flip_once(run, direction);
		if (run->changes != changes)
			end = nearer_end(run, direction, end);
		if (!counted)
			atomic_inc(&flipping);
		counted = true;
		cond_resched();
	} while (time_before(jiffies, end) && !fatal_signal_pending(current));
	atomic_dec(&flipping);
}

int target_flipping(void)
{
	return atomic_read(&flipping);
}

struct interrupts {
	struct irq_work hard;
	struct tasklet_struct soft;
	struct completion done;
	struct target_atomic_run *run;
};

static void in_hard(struct irq_work *work)
{
	struct interrupts *interrupts = container_of(work, struct interrupts, hard);

	interrupts->run->sum += target_atomic(1);
	interrupts->run->hard += !!in_hardirq();
	complete(&interrupts->done);
}

static void in_soft(struct tasklet_struct *tasklet)
{
	struct interrupts *interrupts = container_of(tasklet, struct interrupts, soft);

	interrupts->run->sum += target_atomic(1);
	interrupts->run->soft += !!in_serving_softirq();
	complete(&interrupts->done);
}

/* One after the other, so that the sum needs no lock. @calls of each kind. */
void target_run_atomic(unsigned long calls, struct target_atomic_run *run)
{
	struct interrupts interrupts = { .run = run };

	interrupts.hard = IRQ_WORK_INIT_HARD(in_hard);
	tasklet_setup(&interrupts.soft, in_soft);
	init_completion(&interrupts.done);
	while (calls-- && !fatal_signal_pending(current)) {
		irq_work_queue(&interrupts.hard);
		wait_for_completion(&interrupts.done);
		tasklet_schedule(&interrupts.soft);
		wait_for_completion(&interrupts.done);
	}
	/* Both may still be on their way out; they are on this stack. */
	irq_work_sync(&interrupts.hard);
	tasklet_kill(&interrupts.soft);
}

struct interruptions {
	struct hrtimer timer;
	unsigned long hard;
	long sum;
	bool over;
};

/* It forwards itself from now, so that a slow machine does something else in between. */
static enum hrtimer_restart interrupt(struct hrtimer *timer)
{
	struct interruptions *interruptions = container_of(timer, struct interruptions, timer);

	interruptions->sum += target_atomic(1);
	WRITE_ONCE(interruptions->hard, interruptions->hard + 1);
	if (READ_ONCE(interruptions->over))
		return HRTIMER_NORESTART;
	hrtimer_forward_now(timer, ns_to_ktime(INTERRUPT_NS));
	return HRTIMER_RESTART;
}

/* @calls of target_value(), then it waits until an interrupt has come, if none has yet. */
void target_run_interrupted(unsigned long calls, struct target_atomic_run *run)
{
	struct interruptions interruptions = {};

	hrtimer_init_on_stack(&interruptions.timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	interruptions.timer.function = interrupt;
	hrtimer_start(&interruptions.timer, ns_to_ktime(INTERRUPT_NS), HRTIMER_MODE_REL_PINNED_HARD);
	while (calls && !fatal_signal_pending(current)) {
		run->sum += target_value(1);
		calls--;
		cond_resched();
	}
	while (!READ_ONCE(interruptions.hard) && !fatal_signal_pending(current))
		cond_resched();
	WRITE_ONCE(interruptions.over, true);
	hrtimer_cancel(&interruptions.timer);
	destroy_hrtimer_on_stack(&interruptions.timer);
	run->hard = interruptions.hard;
	run->sum += interruptions.sum;
}

static u64 spin(unsigned long calls)
{
	u64 begin = ktime_get_ns();
	unsigned long i;

	for (i = 0; i < calls; i++)
		target_value(i);
	return ktime_get_ns() - begin;
}

/*
 * Nanoseconds of the fastest of some rounds, which no interrupt came into. Preemption stays on: a subsystem may have
 * been told that target_value() is called where one may sleep.
 */
u64 target_run_spin(unsigned long calls)
{
	u64 fastest = spin(calls);
	int i;

	for (i = 1; i < SPIN_ROUNDS && !fatal_signal_pending(current); i++) {
		fastest = min(fastest, spin(calls));
		cond_resched();
	}
	return fastest;
}
