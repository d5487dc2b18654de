// SPDX-License-Identifier: GPL-2.0
/*
 * stack.c - who is inside, by looking at stacks
 *
 * The counters say how many are in an edition, exactly, but not who; and threads that entered a function before its
 * gate was there are on no counter. Both are found by unwinding every thread's stack while all CPUs are stopped: each
 * thread then stands still, those that were running among them. The kernel's own unwinder tables (ORC) are used; a
 * stack that they do not explain is counted as one that may be inside, never as one that is not.
 *
 * A look costs some microseconds a thread with everything stopped, so it is done when gates are installed, when an
 * exclusive switch has met its deadline, and at long intervals while somebody has to be waited for.
 */
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/stop_machine.h>
#include <linux/string.h>
#include <asm/unwind.h>

#include "core.h"
#include "mutation.h"

#define LOOKING_MIN HZ
#define LOOKING_MAX (30 * HZ)

/* A stretch of text, and what it means to be in it. */
struct place {
	unsigned long start, end;
	enum { PLACE_BODY, PLACE_WRAPPER, PLACE_DISPATCH } kind;
	const struct function *function;
	const struct edition *edition;		/* of a wrapper */
	struct dynamos_counts __percpu *counts;	/* in which it is counted; NULL for a body */
};

/* A subsystem's places, sorted. Never changed once published; a new one replaces it, under dynamos_lock. */
struct places {
	struct rcu_head rcu;
	unsigned int count;
	struct place places[];
};

/* ------------------------------------------------------------------------------------------------------ places */

/* The end of the function that has an address: kallsyms describes it as "name+0x4/0x120 [module]". */
static unsigned long text_end(unsigned long address)
{
	unsigned long offset, size;
	char text[KSYM_SYMBOL_LEN];
	char *plus;

	sprint_symbol(text, address);
	plus = strrchr(text, '+');
	if (!plus || sscanf(plus, "+%lx/%lx", &offset, &size) != 2)
		return address;
	return address - offset + size;
}

static void place_add(struct places *places, unsigned long start, int kind, const struct function *function,
		      const struct edition *edition, struct dynamos_counts __percpu *counts)
{
	struct place *place = &places->places[places->count++];

	*place = (struct place) {
		.start = start,
		.end = text_end(start),
		.kind = kind,
		.function = function,
		.edition = edition,
		.counts = counts,
	};
}

static void places_add_function(struct places *places, const struct function *function)
{
	const struct dynamos_function *def = function->def;

	place_add(places, (unsigned long)def->dispatch.wrapper, PLACE_DISPATCH, function, NULL, def->dispatch.counts);
	if (!function->gate)
		return;
	place_add(places, gate_site(function->gate), PLACE_BODY, function, NULL, NULL);
	if (gate_cold(function->gate))
		place_add(places, gate_cold(function->gate), PLACE_BODY, function, NULL, NULL);
}

static void places_add_edition(struct places *places, const struct edition *edition)
{
	const struct dynamos_replacement *const *replacement;
	struct function *function;

	if (edition->def->replacements) {
		for (replacement = edition->def->replacements; *replacement; replacement++)
			place_add(places, (unsigned long)(*replacement)->wrapper, PLACE_WRAPPER,
				  (*replacement)->function->core, edition, (*replacement)->counts);
		return;
	}
	list_for_each_entry(function, &edition->subsystem->functions, list)
		place_add(places, (unsigned long)function->def->original.wrapper, PLACE_WRAPPER, function, edition,
			  function->def->original.counts);
}

static unsigned int places_needed(const struct subsystem *subsystem)
{
	unsigned int functions = 0, editions = 0;
	struct list_head *at;

	list_for_each(at, &subsystem->functions)
		functions++;
	list_for_each(at, &subsystem->editions)
		editions++;
	/* Of each function the dispatch slot, the body and its cold part, and a wrapper for each edition. */
	return functions * (3 + editions);
}

static struct places *places_create(unsigned int count, gfp_t gfp)
{
	size_t size = struct_size_t(struct places, places, count);

	if (gfp & __GFP_NOFAIL)
		return kvzalloc(size, gfp);
	return failable(kvzalloc(size, gfp), NULL);
}

static int place_compare(const void *one, const void *other)
{
	const struct place *a = one, *b = other;

	if (a->start == b->start)
		return 0;
	return a->start < b->start ? -1 : 1;
}

/**
 * places_update() - find out anew where a subsystem's text is
 * @subsystem: the subsystem
 * @gfp: GFP_KERNEL; with __GFP_NOFAIL where something has gone, which cannot be undone
 *
 * To be called whenever a function or an edition has come or gone. Return: 0, or -ENOMEM; then what was known before
 * is still known, which is wrong about what has come.
 */
int places_update(struct subsystem *subsystem, gfp_t gfp)
{
	struct places *places, *old;
	struct function *function;
	struct edition *edition;

	lockdep_assert_held(&dynamos_lock);
	places = places_create(places_needed(subsystem), gfp);
	if (!places)
		return -ENOMEM;
	list_for_each_entry(function, &subsystem->functions, list)
		places_add_function(places, function);
	list_for_each_entry(edition, &subsystem->editions, list)
		places_add_edition(places, edition);
	sort(places->places, places->count, sizeof(places->places[0]), place_compare, NULL);

	old = rcu_replace_pointer(subsystem->places, places, lockdep_is_held(&dynamos_lock));
	if (old && !dynamos_mutated(LOST_MEMORY))
		kvfree_rcu(old, rcu);
	return 0;
}

void places_free(struct subsystem *subsystem)
{
	struct places *old;

	old = rcu_replace_pointer(subsystem->places, NULL, true);
	if (old)
		kvfree_rcu(old, rcu);
}

static const struct place *place_of(const struct places *places, unsigned long address)
{
	unsigned int low = 0, high = places ? places->count : 0;

	while (low < high) {
		unsigned int middle = low + (high - low) / 2;
		const struct place *place = &places->places[middle];

		if (address < place->start)
			high = middle;
		else if (address >= place->end)
			low = middle + 1;
		else
			return place;
	}
	return NULL;
}

/* ---------------------------------------------------------------------------------------------- one stack, read */

/* What has been understood of a stack, from the innermost frame outwards. */
struct reading {
	const struct place *before_gate;	/* a body that was not called by one of us */
	const struct place *wrapper;		/* the innermost one */
	bool unpassed;
	bool unreliable;
	unsigned int depth;
	unsigned long at[6];
};

/* Is this the text of the subsystem's module or of one of its editions'? */
static bool is_ours(const struct subsystem *subsystem, unsigned long address)
{
	const struct edition *edition;

	list_for_each_entry(edition, &subsystem->editions, list)
		if (within_module_core(address, edition->def->owner))
			return true;
	return false;
}

static void read_frame(const struct subsystem *subsystem, const struct places *places, struct reading *reading,
		       const struct place **inner, unsigned long address)
{
	const struct place *place = place_of(places, address);

	if (reading->depth < ARRAY_SIZE(reading->at))
		reading->at[reading->depth] = address;
	reading->depth++;

	/* Each frame tells what the one inside it was called by. */
	if (*inner && (*inner)->kind == PLACE_BODY && !is_ours(subsystem, address) && !reading->before_gate)
		reading->before_gate = *inner;
	if (*inner && (*inner)->kind == PLACE_WRAPPER && !(place && place->kind == PLACE_DISPATCH))
		reading->unpassed = true;
	if (place && place->kind == PLACE_WRAPPER && !reading->wrapper)
		reading->wrapper = place;
	*inner = place;
}

/* Where a stack comes from user space, it ends. */
static bool is_end_of_stack(struct unwind_state *state)
{
	struct pt_regs *regs;

	if (unwind_done(state))
		return true;
	regs = unwind_get_entry_regs(state, NULL);
	return regs && user_mode(regs);
}

static void read_stack(const struct subsystem *subsystem, const struct places *places, struct task_struct *task,
		       struct reading *reading)
{
	const struct place *inner = NULL;
	struct unwind_state state;
	unsigned long address;

	memset(reading, 0, sizeof(*reading));
	for (unwind_start(&state, task, NULL, NULL); !is_end_of_stack(&state); unwind_next_frame(&state)) {
		address = unwind_get_return_address(&state);
		if (!address) {
			/* Generated code that the kernel does not know of. */
			reading->unreliable = true;
			break;
		}
		/* A return address is behind its call, and that may have been the function's last instruction. */
		read_frame(subsystem, places, reading, &inner, address - 1);
	}
	reading->unreliable |= unwind_error(&state);
	/* The outermost frame that is known is in a body: nobody of ours called it. */
	if (inner && inner->kind == PLACE_BODY && !reading->before_gate)
		reading->before_gate = inner;
}

/* --------------------------------------------------------------------------------------------------- all stacks */

struct looker {
	struct subsystem *subsystem;
	const struct places *places;
	struct look *look;
};

static struct insider *look_name(struct look *look, const struct task_struct *task, const struct reading *reading)
{
	struct insider *insider;

	if (look->named == LOOK_NAMES)
		return NULL;
	insider = &look->insiders[look->named++];
	insider->pid = task->pid;
	memcpy(insider->comm, task->comm, sizeof(insider->comm));
	memcpy(insider->at, reading->at, sizeof(insider->at));
	return insider;
}

static void look_take(struct looker *looker, const struct task_struct *task, const struct reading *reading)
{
	struct look *look = looker->look;
	struct insider *insider;

	if (!reading->unreliable && !reading->wrapper && !reading->before_gate)
		return;
	look->found++;
	insider = look_name(look, task, reading);
	if (reading->wrapper) {
		look->gated++;
		look->unpassed += reading->unpassed;
	}
	if (reading->before_gate)
		look->before_gate++;
	if (reading->unreliable && !reading->wrapper && !reading->before_gate)
		look->unreliable++;
	if (!insider)
		return;
	if (reading->before_gate) {
		insider->how = HOW_BEFORE_GATE;
		insider->function = reading->before_gate->function;
		insider->edition = looker->subsystem->original;
	} else if (reading->wrapper) {
		insider->how = HOW_GATED;
		insider->function = reading->wrapper->function;
		insider->edition = reading->wrapper->edition;
	} else {
		insider->how = HOW_UNRELIABLE;
	}
}

/* On one CPU, while the others wait with interrupts off. Nothing here sleeps or takes a lock. */
static int look_stopped(void *data)
{
	struct task_struct *process, *task;
	struct looker *looker = data;
	struct reading reading;

	for_each_process_thread(process, task) {
		/* On a CPU now are only those who do the stopping. One that is all but gone has no stack any more. */
		if (READ_ONCE(task->on_cpu) || !refcount_read(&task->stack_refcount) || !task->stack)
			continue;
		read_stack(looker->subsystem, looker->places, task, &reading);
		look_take(looker, task, &reading);
	}
	looker->look->strangers = passes_in_flight(looker->subsystem) - objects_passes(looker->subsystem);
	return 0;
}

/**
 * look_inside() - find every thread that is in one of a subsystem's functions
 * @subsystem: the subsystem
 *
 * Stops all CPUs for some microseconds a thread. Return: what was found, to be freed with kfree(); NULL without memory.
 */
struct look *look_inside(struct subsystem *subsystem)
{
	struct looker looker = { .subsystem = subsystem };

	lockdep_assert_held(&dynamos_lock);
	looker.places = rcu_dereference_protected(subsystem->places, lockdep_is_held(&dynamos_lock));
	looker.look = failable(kzalloc(sizeof(*looker.look), GFP_KERNEL), NULL);
	if (!looker.look)
		return NULL;
	stop_machine(look_stopped, &looker, NULL);
	return looker.look;
}

/* ---------------------------------------------------------------------------------------------------- reporting */

static const char *how_name(enum how how)
{
	static const char *const names[] = { "gated", "before-gate", "unreliable" };

	return names[how];
}

/* Where a thread sits: the first function from inside out that is not the scheduler's. */
static void sitting_in(const struct insider *insider, char *name, size_t size)
{
	unsigned int i;

	strscpy(name, "?", size);
	for (i = 0; i < ARRAY_SIZE(insider->at) && insider->at[i]; i++) {
		snprintf(name, size, "%ps", (void *)insider->at[i]);
		if (!strstr(name, "sched"))
			break;
	}
	/* Of "function [module]", the function. */
	strreplace(name, ' ', '\0');
}

/* One event for each thread. */
void look_report(struct subsystem *subsystem, const struct look *look)
{
	unsigned int i;

	for (i = 0; i < look->named; i++) {
		const struct insider *insider = &look->insiders[i];
		char comm[TASK_COMM_LEN], at[KSYM_NAME_LEN], more[32] = "";

		if (i == look->named - 1 && look->found > look->named)
			snprintf(more, sizeof(more), " count=%u", look->found - look->named);
		sitting_in(insider, at, sizeof(at));
		event_emit("inside", "subsystem=%s function=%s edition=%s pid=%d comm=\"%s\" at=%s how=%s%s",
			   subsystem->def->name, insider->function ? insider->function->def->name : "?",
			   insider->edition ? insider->edition->def->name : "?", insider->pid,
			   printable_comm(comm, insider->comm), at, how_name(insider->how), more);
	}
}

/* The first of them, for a sentence: "cat[812] in pipe_read". */
void look_describe(const struct look *look, char *text, size_t size)
{
	const struct insider *first = &look->insiders[0];
	char comm[TASK_COMM_LEN], at[KSYM_NAME_LEN];
	int length;

	if (!look->named) {
		strscpy(text, "somebody who has left just now", size);
		return;
	}
	sitting_in(first, at, sizeof(at));
	length = scnprintf(text, size, "%s[%d] in %s", printable_comm(comm, first->comm), first->pid,
			   first->function ? first->function->def->name : at);
	if (look->found > 1)
		scnprintf(text + length, size - length, " and %u more", look->found - 1);
}

/* ---------------------------------------------------------------------------------------- those before the gates */

/* Those before the gates only get fewer: no call comes past a gate. */
void look_remember(struct subsystem *subsystem, const struct look *look)
{
	lockdep_assert_held(&dynamos_lock);
	WRITE_ONCE(subsystem->before_gate, look->before_gate);
	WRITE_ONCE(subsystem->unreliable, look->unreliable);
	if (subsystem->gated && (look->before_gate || look->unreliable))
		queue_delayed_work(dynamos_queue, &subsystem->looking, LOOKING_MIN);
}

static void looking_work(struct work_struct *work)
{
	struct subsystem *subsystem = container_of(to_delayed_work(work), struct subsystem, looking);
	unsigned long next = LOOKING_MAX;
	struct look *look;

	mutex_lock(&dynamos_lock);
	look = subsystem->gated ? look_inside(subsystem) : NULL;
	if (look) {
		look_remember(subsystem, look);
		next = look->before_gate ? LOOKING_MIN : LOOKING_MAX;
	} else if (!subsystem->gated) {
		subsystem->before_gate = 0;
		subsystem->unreliable = 0;
	}
	if (subsystem->before_gate || subsystem->unreliable)
		queue_delayed_work(dynamos_queue, &subsystem->looking, next);
	mutex_unlock(&dynamos_lock);
	kfree(look);
}

void looking_init(struct subsystem *subsystem)
{
	INIT_DELAYED_WORK(&subsystem->looking, looking_work);
}

/* Gates have just been installed: look who was inside before. Until it is known, everybody may be. */
void looking_start(struct subsystem *subsystem)
{
	struct look *look;

	lockdep_assert_held(&dynamos_lock);
	look = look_inside(subsystem);
	if (look)
		look_remember(subsystem, look);
	else
		WRITE_ONCE(subsystem->unreliable, 1);
	kfree(look);
	if (subsystem->before_gate || subsystem->unreliable)
		mod_delayed_work(dynamos_queue, &subsystem->looking, LOOKING_MIN);
}

/* ----------------------------------------------------------------------------------------------- one's own stack */

/**
 * is_inside() - is the current thread in one of the subsystem's functions, besides the call it is making?
 * @subsystem: the subsystem
 * @function: of the call, which came through the dispatch slot
 *
 * Context: that of the call. Return: true also when the stack could not be read.
 */
bool is_inside(struct subsystem *subsystem, const struct dynamos_function *function)
{
	unsigned long own = (unsigned long)function->dispatch.wrapper;
	const struct places *places;
	const struct place *place;
	struct unwind_state state;
	unsigned long address;
	bool inside = false, passed = false;

	rcu_read_lock();
	places = rcu_dereference(subsystem->places);
	unwind_start(&state, current, NULL, NULL);
	for (; !inside && !is_end_of_stack(&state); unwind_next_frame(&state)) {
		address = unwind_get_return_address(&state);
		place = address ? place_of(places, address - 1) : NULL;
		inside = !address || (passed && place);
		if (place && place->start == own)
			passed = true;
	}
	rcu_read_unlock();
	return inside || unwind_error(&state);
}

/* ------------------------------------------------------------------------------------------------ a thread's fault */

/* Is an address in an edition: in a wrapper of it, or anywhere in its module, if that has nothing else? */
bool text_is_of(const struct edition *edition, unsigned long address)
{
	const struct subsystem *subsystem = edition->subsystem;
	const struct place *place;

	if (edition != subsystem->original)
		return within_module_core(address, edition->def->owner);
	place = place_of(rcu_dereference(subsystem->places), address);
	return place && place->kind == PLACE_WRAPPER && place->edition == edition;
}

/**
 * stack_read() - read the current thread's stack
 * @regs: where from; NULL: from here
 * @at: gets the addresses, from inside out: where it is, if there are @regs, and the calls that it is in
 * @most: how many there is room for
 *
 * Context: any. What is not to be explained is left out. Return: how many there were.
 */
unsigned int stack_read(struct pt_regs *regs, unsigned long *at, unsigned int most)
{
	struct unwind_state state;
	unsigned long address;
	unsigned int count = 0;

	/* The unwinder begins behind it. */
	if (regs && count < most)
		at[count++] = regs->ip;
	for (unwind_start(&state, current, regs, NULL); count < most && !is_end_of_stack(&state);
	     unwind_next_frame(&state)) {
		address = unwind_get_return_address(&state);
		if (address)
			at[count++] = address - 1;
	}
	return count;
}

/*
 * The calls of a subsystem that are on a stack will never return: count them out. Whoever died did so in the middle of
 * them, so that each was counted in.
 */
void stack_is_gone(struct subsystem *subsystem, const unsigned long *at, unsigned int count)
{
	const struct places *places = rcu_dereference(subsystem->places);
	const struct place *place;
	unsigned int i;

	for (i = 0; i < count; i++) {
		place = place_of(places, at[i]);
		if (place && place->counts)
			this_cpu_inc(place->counts->returned);
	}
}
