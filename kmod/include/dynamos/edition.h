/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dynamos/edition.h - all that the author of a subsystem or of an edition includes
 *
 * WHAT
 *
 * A *subsystem* is a named set of kernel functions that switch together. An *edition* is one implementation of
 * those functions. `original`, edition 0, always exists: it is the kernel's own code. A *gate* at each function's
 * entry sends a call to the active edition; one store to one word changes it for every function of the subsystem
 * at the same instant. docs/consistency.md says what that promises to calls which are already running.
 *
 * API
 *
 *   DYNAMOS_PROTOTYPE_<function>		you #define it, once, in the subsystem's header (below)
 *   DYNAMOS_DECLARE_SUBSYSTEM(subsystem)	in the subsystem's header
 *   DYNAMOS_DECLARE_FUNCTION(function)		in the subsystem's header
 *   DYNAMOS_FUNCTION(subsystem, function)	in the subsystem's module: its gate and its original
 *   DYNAMOS_SUBSYSTEM(subsystem, functions...)	in the subsystem's module: makes it one, loads and unloads it
 *   DYNAMOS_REPLACE(edition, function, body)	in an edition's module: `body` stands in for the function
 *   DYNAMOS_EDITION(subsystem, edition, replacements...)	the same module: makes it an edition
 *   dynamos_original(function)(args...)	calls the kernel's own code, from within a body
 *
 * and, each before the macro that makes the thing it speaks of, if there is something to say:
 *
 *   DYNAMOS_SUBSYSTEM_TRAITS(subsystem, .may_sleep = true)	all its functions are called where sleeping is allowed
 *   DYNAMOS_FUNCTION_TRAITS(function, .home = "module", .role = ...)	it is another module's; what it does to objects
 *   DYNAMOS_OBJECT(function, expression)	the object that a call is about, from the call's own arguments
 *   DYNAMOS_DECLARE_EDITION(edition)	in the edition's module, where a body names it: DYNAMOS_THIS_EDITION(edition)
 *   DYNAMOS_EDITION_TRAITS(edition, .modes = ..., .prepare = ..., .transfer = ..., .handler = ...)
 *
 * EXAMPLE
 *
 * The subsystem's header, pipe.h. The prototype is written here and nowhere else: everything that is built from it
 * is compared with it by the compiler, and by `dynamosctl edition check` with the running kernel.
 *
 *	#include <dynamos/edition.h>
 *
 *	#define DYNAMOS_PROTOTYPE_pipe_write					\
 *		DYNAMOS_RETURNS(ssize_t, (struct kiocb *iocb, struct iov_iter *from), (iocb, from))
 *	DYNAMOS_DECLARE_SUBSYSTEM(pipe);
 *	DYNAMOS_DECLARE_FUNCTION(pipe_write);
 *
 * The subsystem's module, pipe.c:
 *
 *	DYNAMOS_OBJECT(pipe_write, iocb->ki_filp->private_data);
 *	DYNAMOS_FUNCTION(pipe, pipe_write);
 *	DYNAMOS_SUBSYSTEM_TRAITS(pipe, .may_sleep = true);
 *	DYNAMOS_SUBSYSTEM(pipe, &dynamos_function_pipe_write);
 *	MODULE_LICENSE("GPL");
 *
 * An edition's module, pipe_counting.c; it depends on pipe.ko by its symbols, so modprobe loads both:
 *
 *	static ssize_t counting_write(struct kiocb *iocb, struct iov_iter *from)
 *	{
 *		atomic_long_inc(&writes);
 *		return dynamos_original(pipe_write)(iocb, from);
 *	}
 *	DYNAMOS_REPLACE(counting, pipe_write, counting_write);
 *	DYNAMOS_EDITION(pipe, counting, DYNAMOS_REPLACEMENT(counting, pipe_write));
 *	MODULE_LICENSE("GPL");
 *
 * MODES
 *
 * Whoever switches chooses the mode; docs/consistency.md has what each promises, and edition and subsystem decide which
 * are possible:
 *
 *   concurrent		new calls get the new edition, old ones end in the old one. Both must bear each other's company.
 *   exclusive		new callers are held until nobody is in the old edition. Needs .may_sleep.
 *   per-object		each object changes when nobody is in a call about it. Needs DYNAMOS_OBJECT() for the functions
 *			that are about an object, and, if new objects are to change at once, who makes them: a function
 *			with .role = DYNAMOS_BIRTH returns a new object; one with DYNAMOS_DEATH ends the one it is
 *			called about.
 *   scoped		some calls get it: by cgroup, CPU, task, one in N, or as the edition's own handler says.
 *
 * An edition that lays data out in its own way says so by a .transfer callback; `concurrent` and `scoped` are then
 * refused unless .modes has them.
 *
 * CAVEATS
 *
 * - A body runs in the context of the function's callers: with their locks held, in interrupts if they are.
 * - Two editions run side by side after a switch, for as long as a call lasts. Data that both touch must keep a
 *   layout which both understand, and correctness must not depend on which of them runs.
 * - A function that an edition does not replace goes to `original` while the edition is active.
 * - A call that is held waits with whatever locks its caller holds. Who holds a lock that a call in flight needs makes
 *   an exclusive switch run into its deadline; then all go on.
 * - Functions with variable arguments cannot be gated.
 * - An edition's module cannot be removed while its edition is active or in flight: rmmod says EBUSY.
 * - Extra state of an object goes into a shadow: dynamos_shadow_attach(). It goes with the object, if the subsystem has
 *   a function with DYNAMOS_DEATH, or with the edition's module. In the call that ends the object it is gone already.
 * - A call of a function with DYNAMOS_DEATH must be the last about its object, with no other one in flight.
 * - Module parameters with mode 0644 can be changed while the edition runs (`set` of docs/abi.md): read them once a
 *   call, with READ_ONCE().
 */
#ifndef _DYNAMOS_EDITION_H
#define _DYNAMOS_EDITION_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/gfp_types.h>
#include <linux/jump_label.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/static_call.h>

#include <dynamos/gate.h>
#include <dynamos/trace.h>

/*
 * Calls that went in and came out, per CPU. A thread may come out on another CPU than it went in, so only the sums
 * over all CPUs mean something. Written with single instructions, without a lock, by whoever makes the call.
 */
struct dynamos_counts {
	unsigned long entered;
	unsigned long returned;
};

struct dynamos_edition;
struct dynamos_function;
struct dynamos_subsystem;

/* One function of one edition: the typed wrapper that counts and traces around the body. Constant. */
struct dynamos_replacement {
	struct dynamos_function *function;
	void *wrapper;
	struct dynamos_counts __percpu *counts;
};

/* What a function does to the objects that its calls are about (mode per-object). */
enum dynamos_role {
	DYNAMOS_USE,			/* nothing that matters here */
	DYNAMOS_BIRTH,			/* what it returns, unless NULL or an error pointer, is a new object */
	DYNAMOS_DEATH,			/* the object of the call is none any more when it returns */
};

/* What an author may say of a function; all of it optional. Constant. */
struct dynamos_function_traits {
	const char *home;		/* the module that has it; NULL: the kernel itself */
	enum dynamos_role role;
};

/*
 * One gateable function. Made by DYNAMOS_FUNCTION(); `id` is written by the core when the subsystem is registered,
 * before any gate is installed, and not again.
 */
struct dynamos_function {
	const char *name;
	const struct dynamos_function_traits *traits;
	struct dynamos_subsystem *subsystem;
	void *gate;
	void *choose, *choose_cpu, *choose_task;
	unsigned long *entries;		/* the gate's table, DYNAMOS_SLOTS long, written by the core */
	void (*bind)(unsigned long body);	/* 0: it is not there */
	struct dynamos_replacement original;
	struct dynamos_replacement dispatch;
	const void *object;		/* points to NULL when no call is about an object */
	u32 id;
	void *core;			/* the core's own data; NULL while not registered */
};

/*
 * A call that a handler decides about. `arguments` has the six argument registers, as the function's caller left them:
 * its first six arguments that are numbers or pointers, in order. Of one that is narrower than 64 bits only the lower
 * part means something. For a function that returns a structure through memory (more than 16 bytes), the first is the
 * address of that, and the arguments begin behind it. What the function gets on the stack is not to be had.
 */
struct dynamos_choice {
	const struct dynamos_function *function;
	const unsigned long *arguments;
};

/* Bits of .modes. */
#define DYNAMOS_CONCURRENT BIT(0)
#define DYNAMOS_EXCLUSIVE BIT(1)
#define DYNAMOS_PER_OBJECT BIT(2)
#define DYNAMOS_SCOPED BIT(3)

/* Says of an object's state, or the whole subsystem's, where it goes. */
enum dynamos_transfer {
	DYNAMOS_INTO,			/* from the original's layout to this edition's */
	DYNAMOS_OUT_OF,			/* back again */
};

/*
 * What an author may say of an edition; all of it optional. Constant.
 *
 * A switch from edition A to edition B calls, in this order:
 *
 *   B.prepare()		may sleep. An error refuses the switch; nothing has changed.
 *   A.transfer(OUT_OF), B.transfer(INTO)
 *				exclusive: once, with @object NULL, while nobody is in any function of the subsystem.
 *				If it ends a per-object switch, some objects are there already: leave those alone.
 *				per-object: for each object, while nobody is in a call about it and new callers wait;
 *				called by one of those. May sleep if the subsystem's functions may. An error makes an
 *				exclusive switch fail, and an object keep its edition; what was done is undone.
 *   B.commit()			may sleep. B is active.
 *   B.abort()			may sleep. Instead of commit(), when prepare() had agreed.
 *   A.retire()			may sleep. Nobody is in A any more; it can become active again.
 *
 * transfer() must not wait for a lock that a caller of the subsystem's functions may hold, nor call those functions.
 *
 * @handler decides, in mode scoped with scope=handler, whether a call gets this edition. It runs in the context of the
 * function's callers, before the call, and must not sleep or call a function of the same subsystem.
 */
struct dynamos_edition_traits {
	u32 modes;			/* in which it may come and go; 0: all, or with transfer, those two */
	int (*prepare)(void);
	int (*transfer)(void *object, enum dynamos_transfer direction);
	void (*commit)(void);
	void (*abort)(void);
	void (*retire)(void);
	bool (*handler)(const struct dynamos_choice *choice);
};

/* `index` and `core` are written by the core while the edition is being registered, and not while it can run. */
struct dynamos_edition {
	const char *name;
	const struct dynamos_edition_traits *traits;
	struct dynamos_subsystem *subsystem;
	struct module *owner;
	const struct dynamos_replacement *const *replacements;	/* ends with NULL */
	bool has_shadows;		/* set once, by dynamos_shadow_attach() */
	u32 index;
	void *core;
};

/* What an author may say of a subsystem; all of it optional. Constant. */
struct dynamos_subsystem_traits {
	bool may_sleep;			/* all functions are called where sleeping is allowed, always */
};

struct dynamos_subsystem {
	const char *name;
	const struct dynamos_subsystem_traits *traits;
	struct module *owner;
	struct dynamos_function *const *functions;		/* ends with NULL */
	unsigned int *active;		/* the one word that the gates read; written by a switch only */
	struct dynamos_route *route;
	u32 __percpu *cpu_route;
	struct dynamos_edition *original;
	void *core;
};

/*
 * All four may sleep; call them from module init and exit only. Registering fails with -EEXIST (the name is taken),
 * -EINVAL (a name or a table is malformed, or a function is not traceable, or is a module's without .home), -ENOENT (no
 * such function in this kernel), -EPERM (a function that must not be gated: docs/consistency.md), -EBUSY (somebody else
 * holds a function's entry), -EAGAIN (ftrace is switched off), -ENOSPC (too many editions) or -ENOMEM, and then leaves
 * nothing behind; the kernel log and the event `refused` say why.
 */
int dynamos_register_subsystem(struct dynamos_subsystem *subsystem);
void dynamos_unregister_subsystem(struct dynamos_subsystem *subsystem);
int dynamos_register_edition(struct dynamos_edition *edition);
void dynamos_unregister_edition(struct dynamos_edition *edition);

/* Called by the gates' code; not for authors. In any context. */
unsigned long dynamos_choose(const struct dynamos_function *function, const unsigned long *arguments);

/* One pass through a dispatch slot; lives on its caller's stack. */
struct dynamos_pass {
	struct dynamos_function *function;
	unsigned long target;		/* where to go */
	void *object;			/* that the call is about; NULL: none */
	void *record;			/* the core's own, for the way back */
	u32 index;			/* of the edition that was chosen */
	u32 session;			/* of the per-object switch by which it was; 0: by none */
};

/* Around a call through a dispatch slot; not for authors. Sleep only where the caller may. */
void dynamos_pass_begin(struct dynamos_pass *pass);
void dynamos_pass_end(struct dynamos_pass *pass, void *born);

/* On while somebody wants to know who leaves an edition. */
DECLARE_STATIC_KEY_FALSE(dynamos_watch_exits);
void dynamos_leaving(const struct dynamos_edition *edition);

/**
 * dynamos_shadow_attach() - extra state for an object, made the first time it is asked for
 * @edition: to whom the state belongs
 * @object: the object, as DYNAMOS_OBJECT() gives it
 * @size: bytes, all zero at first
 * @gfp: as for kmalloc()
 *
 * Return: the state, the same for every call about this object; NULL without memory. It is freed when the object dies
 * or the edition's module goes. The caller sees to the locking of what is in it.
 */
void *dynamos_shadow_attach(struct dynamos_edition *edition, void *object, size_t size, gfp_t gfp);

/* The state, or NULL when there is none. */
void *dynamos_shadow_get(struct dynamos_edition *edition, void *object);

/* An edition as the two above want it, in its own module, behind DYNAMOS_DECLARE_EDITION(). */
#define DYNAMOS_THIS_EDITION(edition) (&dynamos_edition_##edition)
#define DYNAMOS_DECLARE_EDITION(edition) static struct dynamos_edition dynamos_edition_##edition

/* How a prototype is written down: return type, parameter list, the parameters' names again as arguments. */
#define DYNAMOS_RETURNS(type, parameters, arguments) SCALAR, type, parameters, arguments
#define DYNAMOS_RETURNS_STRUCT(type, parameters, arguments) STRUCT, type, parameters, arguments
#define DYNAMOS_RETURNS_VOID(parameters, arguments) VOID, void, parameters, arguments

/* Expands its arguments once more, so that a DYNAMOS_PROTOTYPE_x comes apart into kind, type, parameters, arguments. */
#define __DYNAMOS_APPLY(macro, ...) macro(__VA_ARGS__)

#define DYNAMOS_DECLARE_SUBSYSTEM(subsystem) \
	extern struct dynamos_subsystem dynamos_subsystem_##subsystem

#define DYNAMOS_DECLARE_FUNCTION(function) \
	__DYNAMOS_APPLY(__DYNAMOS_DECLARE_FUNCTION, function, DYNAMOS_PROTOTYPE_##function)
#define __DYNAMOS_DECLARE_FUNCTION(function, kind, type, parameters, arguments)	\
	typedef type dynamos_type_##function parameters;			\
	DECLARE_STATIC_CALL(dynamos_body_##function, dynamos_type_##function);	\
	extern struct dynamos_function dynamos_function_##function

/* The kernel's own code of a function, past its gate: not counted, not traced, a direct call. */
#define dynamos_original(function) static_call(dynamos_body_##function)

/* The first four of the arguments as numbers, zeroes where there are fewer. The leading 0 allows for none at all. */
#define __DYNAMOS_FIRST_FOUR(none, a, b, c, d, ...) \
	(u64)(unsigned long)(a), (u64)(unsigned long)(b), (u64)(unsigned long)(c), (u64)(unsigned long)(d)
#define __DYNAMOS_TRACED(...) __DYNAMOS_FIRST_FOUR(0, ##__VA_ARGS__, 0, 0, 0, 0)

/*
 * Counting in comes first and counting out last: what the counters call "nothing in flight" then leaves only the
 * few instructions before and after them, none of which sleeps, so that a tasks-RCU grace period covers those.
 */
#define __DYNAMOS_ENTER(function, edition, counts, arguments)			\
	do {									\
		this_cpu_inc(counts.entered);					\
		if (trace_edition_enter_enabled())				\
			trace_edition_enter((function).id, (edition).index,	\
					    __DYNAMOS_TRACED arguments);	\
	} while (0)

#define __DYNAMOS_LEAVE(function, edition, counts, ret)				\
	do {									\
		if (trace_edition_exit_enabled())				\
			trace_edition_exit((function).id, (edition).index, ret);	\
		if (static_branch_unlikely(&dynamos_watch_exits))		\
			dynamos_leaving(&(edition));				\
		this_cpu_inc(counts.returned);					\
	} while (0)

/*
 * Whatever threads are found in by their stacks is in one piece: in a section of its own, the compiler does not take
 * the unlikely parts of a function elsewhere.
 */
#define __dynamos_text noinline __section(".text.dynamos")

/* What the original is while its function is not there: nobody comes here through a gate. */
#define __DYNAMOS_ABSENT_SCALAR(fn, type, parameters)				\
	static type dynamos_absent_##fn parameters				\
	{									\
		pr_warn_once("dynamos: %s is not there, 0 is returned\n", #fn);	\
		return (type)0;							\
	}
#define __DYNAMOS_ABSENT_STRUCT(fn, type, parameters)				\
	static type dynamos_absent_##fn parameters				\
	{									\
		pr_warn_once("dynamos: %s is not there, 0 is returned\n", #fn);	\
		return (type) { };						\
	}
#define __DYNAMOS_ABSENT_VOID(fn, type, parameters)				\
	static void dynamos_absent_##fn parameters				\
	{									\
		pr_warn_once("dynamos: %s is not there, 0 is returned\n", #fn);	\
	}

#define __DYNAMOS_WRAPPER_SCALAR(name, function, edition, counts, body, type, parameters, arguments) \
	static __dynamos_text type name parameters				\
	{									\
		type dynamos_ret;						\
										\
		__DYNAMOS_ENTER(function, edition, counts, arguments);		\
		dynamos_ret = body arguments;					\
		__DYNAMOS_LEAVE(function, edition, counts, (u64)(unsigned long)dynamos_ret); \
		return dynamos_ret;						\
	}

#define __DYNAMOS_WRAPPER_STRUCT(name, function, edition, counts, body, type, parameters, arguments) \
	static __dynamos_text type name parameters				\
	{									\
		type dynamos_ret;						\
										\
		__DYNAMOS_ENTER(function, edition, counts, arguments);		\
		dynamos_ret = body arguments;					\
		__DYNAMOS_LEAVE(function, edition, counts, 0);			\
		return dynamos_ret;						\
	}

#define __DYNAMOS_WRAPPER_VOID(name, function, edition, counts, body, type, parameters, arguments) \
	static __dynamos_text void name parameters				\
	{									\
		__DYNAMOS_ENTER(function, edition, counts, arguments);		\
		body arguments;							\
		__DYNAMOS_LEAVE(function, edition, counts, 0);			\
	}

/*
 * A pass through the dispatch slot: like a wrapper, it counts in first and out last. Unlike a wrapper it is of the
 * subsystem's module and belongs to no edition.
 */
#define __DYNAMOS_PASS_BEGIN(fn, arguments)					\
	struct dynamos_pass dynamos_pass = { .function = &dynamos_function_##fn };	\
										\
	this_cpu_inc(dynamos_counts_dispatch_##fn.entered);			\
	if (dynamos_object_##fn)						\
		dynamos_pass.object = dynamos_object_##fn arguments;		\
	dynamos_pass_begin(&dynamos_pass)

#define __DYNAMOS_PASS_END(fn, born)						\
	do {									\
		dynamos_pass_end(&dynamos_pass, born);				\
		this_cpu_inc(dynamos_counts_dispatch_##fn.returned);		\
	} while (0)

#define __DYNAMOS_DISPATCH_SCALAR(fn, type, parameters, arguments)		\
	static __dynamos_text type dynamos_dispatch_##fn parameters		\
	{									\
		type dynamos_ret;						\
										\
		__DYNAMOS_PASS_BEGIN(fn, arguments);				\
		dynamos_ret = ((dynamos_type_##fn *)dynamos_pass.target) arguments; \
		__DYNAMOS_PASS_END(fn, (void *)(unsigned long)dynamos_ret);	\
		return dynamos_ret;						\
	}

#define __DYNAMOS_DISPATCH_STRUCT(fn, type, parameters, arguments)		\
	static __dynamos_text type dynamos_dispatch_##fn parameters		\
	{									\
		type dynamos_ret;						\
										\
		__DYNAMOS_PASS_BEGIN(fn, arguments);				\
		dynamos_ret = ((dynamos_type_##fn *)dynamos_pass.target) arguments; \
		__DYNAMOS_PASS_END(fn, NULL);					\
		return dynamos_ret;						\
	}

#define __DYNAMOS_DISPATCH_VOID(fn, type, parameters, arguments)		\
	static __dynamos_text void dynamos_dispatch_##fn parameters		\
	{									\
		__DYNAMOS_PASS_BEGIN(fn, arguments);				\
		((dynamos_type_##fn *)dynamos_pass.target) arguments;		\
		__DYNAMOS_PASS_END(fn, NULL);					\
	}

/*
 * What an author says beforehand is a definition with values; the macros below repeat it without any, which C takes as
 * "the same one, or all zeroes".
 */
#define DYNAMOS_FUNCTION_TRAITS(fn, ...) \
	static const struct dynamos_function_traits dynamos_traits_##fn = { __VA_ARGS__ }
#define DYNAMOS_EDITION_TRAITS(edition, ...) \
	static const struct dynamos_edition_traits dynamos_edition_traits_##edition = { __VA_ARGS__ }
#define DYNAMOS_SUBSYSTEM_TRAITS(subsys, ...) \
	static const struct dynamos_subsystem_traits dynamos_subsystem_traits_##subsys = { __VA_ARGS__ }

/* @expression uses the names of the prototype's parameters; NULL means that this call is about none. */
#define DYNAMOS_OBJECT(function, expression) \
	__DYNAMOS_APPLY(__DYNAMOS_OBJECT, function, expression, DYNAMOS_PROTOTYPE_##function)
#define __DYNAMOS_OBJECT(fn, expression, kind, type, parameters, arguments)	\
	typedef void *(*dynamos_object_type_##fn) parameters;			\
	static void *dynamos_get_object_##fn parameters				\
	{									\
		return (void *)(expression);					\
	}									\
	static const dynamos_object_type_##fn dynamos_object_##fn = dynamos_get_object_##fn

#define DYNAMOS_FUNCTION(subsys, function) \
	__DYNAMOS_APPLY(__DYNAMOS_FUNCTION, subsys, function, DYNAMOS_PROTOTYPE_##function)
#define __DYNAMOS_FUNCTION(subsys, fn, kind, type, parameters, arguments)	\
	extern unsigned int dynamos_active_##subsys;				\
	extern struct dynamos_edition dynamos_original_##subsys;		\
	extern unsigned long dynamos_entries_##fn[DYNAMOS_SLOTS];		\
	unsigned long dynamos_entries_##fn[DYNAMOS_SLOTS] __read_mostly;	\
	typedef void *(*dynamos_object_type_##fn) parameters;			\
	static const dynamos_object_type_##fn dynamos_object_##fn;		\
	static const struct dynamos_function_traits dynamos_traits_##fn;	\
	__DYNAMOS_GATE(subsys, fn);						\
	__DYNAMOS_CHOOSE(subsys, fn);					\
	__DYNAMOS_CHOOSE_CPU(subsys, fn);					\
	__DYNAMOS_CHOOSE_TASK(subsys, fn);					\
	__DYNAMOS_ABSENT_##kind(fn, type, parameters)				\
	DEFINE_STATIC_CALL(dynamos_body_##fn, dynamos_absent_##fn);		\
	EXPORT_STATIC_CALL_GPL(dynamos_body_##fn);				\
	static void dynamos_bind_##fn(unsigned long body)			\
	{									\
		static_call_update(dynamos_body_##fn,				\
				   body ? (dynamos_type_##fn *)body : dynamos_absent_##fn); \
	}									\
	static DEFINE_PER_CPU(struct dynamos_counts, dynamos_counts_original_##fn); \
	static DEFINE_PER_CPU(struct dynamos_counts, dynamos_counts_dispatch_##fn); \
	__DYNAMOS_WRAPPER_##kind(dynamos_wrapper_original_##fn, dynamos_function_##fn, \
				 dynamos_original_##subsys, dynamos_counts_original_##fn, \
				 static_call(dynamos_body_##fn), type, parameters, arguments) \
	__DYNAMOS_DISPATCH_##kind(fn, type, parameters, arguments)		\
	struct dynamos_function dynamos_function_##fn = {			\
		.name = #fn,							\
		.traits = &dynamos_traits_##fn,					\
		.subsystem = &dynamos_subsystem_##subsys,			\
		.gate = dynamos_gate_##fn,					\
		.choose = dynamos_choose_##fn,					\
		.choose_cpu = dynamos_choose_cpu_##fn,				\
		.choose_task = dynamos_choose_task_##fn,			\
		.entries = dynamos_entries_##fn,				\
		.bind = dynamos_bind_##fn,					\
		.original = {							\
			.function = &dynamos_function_##fn,			\
			.wrapper = dynamos_wrapper_original_##fn,		\
			.counts = &dynamos_counts_original_##fn,		\
		},								\
		.dispatch = {							\
			.function = &dynamos_function_##fn,			\
			.wrapper = dynamos_dispatch_##fn,			\
			.counts = &dynamos_counts_dispatch_##fn,		\
		},								\
		.object = &dynamos_object_##fn,					\
	};									\
	EXPORT_SYMBOL_GPL(dynamos_function_##fn)

#define DYNAMOS_SUBSYSTEM(subsys, ...)						\
	extern struct dynamos_route dynamos_route_##subsys;			\
	struct dynamos_route dynamos_route_##subsys __read_mostly;		\
	DECLARE_PER_CPU(u32, dynamos_cpu_route_##subsys);			\
	DEFINE_PER_CPU(u32, dynamos_cpu_route_##subsys);			\
	static const struct dynamos_subsystem_traits dynamos_subsystem_traits_##subsys; \
	static const struct dynamos_edition_traits dynamos_original_traits_##subsys; \
	unsigned int dynamos_active_##subsys __read_mostly;			\
	static struct dynamos_function *const dynamos_functions_##subsys[] = {	\
		__VA_ARGS__, NULL						\
	};									\
	struct dynamos_edition dynamos_original_##subsys = {			\
		.name = "original",						\
		.traits = &dynamos_original_traits_##subsys,			\
		.subsystem = &dynamos_subsystem_##subsys,			\
		.owner = THIS_MODULE,						\
	};									\
	struct dynamos_subsystem dynamos_subsystem_##subsys = {			\
		.name = #subsys,						\
		.traits = &dynamos_subsystem_traits_##subsys,			\
		.owner = THIS_MODULE,						\
		.functions = dynamos_functions_##subsys,			\
		.active = &dynamos_active_##subsys,				\
		.route = &dynamos_route_##subsys,				\
		.cpu_route = &dynamos_cpu_route_##subsys,			\
		.original = &dynamos_original_##subsys,				\
	};									\
	EXPORT_SYMBOL_GPL(dynamos_subsystem_##subsys);				\
	static int __init dynamos_init_##subsys(void)				\
	{									\
		return dynamos_register_subsystem(&dynamos_subsystem_##subsys);	\
	}									\
	static void __exit dynamos_exit_##subsys(void)				\
	{									\
		dynamos_unregister_subsystem(&dynamos_subsystem_##subsys);	\
	}									\
	module_init(dynamos_init_##subsys);					\
	module_exit(dynamos_exit_##subsys)

#define DYNAMOS_REPLACE(edition, function, body) \
	__DYNAMOS_APPLY(__DYNAMOS_REPLACE, edition, function, body, DYNAMOS_PROTOTYPE_##function)
#define __DYNAMOS_REPLACE(edition, fn, body, kind, type, parameters, arguments)	\
	static_assert(__same_type(body, dynamos_type_##fn),			\
		      #body " does not have the prototype of " #fn);		\
	static struct dynamos_edition dynamos_edition_##edition;		\
	static DEFINE_PER_CPU(struct dynamos_counts, dynamos_counts_##edition##_##fn); \
	__DYNAMOS_WRAPPER_##kind(dynamos_wrapper_##edition##_##fn, dynamos_function_##fn, \
				 dynamos_edition_##edition, dynamos_counts_##edition##_##fn, \
				 body, type, parameters, arguments)		\
	static const struct dynamos_replacement dynamos_replacement_##edition##_##fn = { \
		.function = &dynamos_function_##fn,				\
		.wrapper = dynamos_wrapper_##edition##_##fn,			\
		.counts = &dynamos_counts_##edition##_##fn,			\
	}

#define DYNAMOS_REPLACEMENT(edition, function) (&dynamos_replacement_##edition##_##function)

#define DYNAMOS_EDITION(subsys, edition, ...)					\
	static const struct dynamos_edition_traits dynamos_edition_traits_##edition; \
	static const struct dynamos_replacement *const dynamos_replacements_##edition[] = { \
		__VA_ARGS__, NULL						\
	};									\
	static struct dynamos_edition dynamos_edition_##edition = {		\
		.name = #edition,						\
		.traits = &dynamos_edition_traits_##edition,			\
		.subsystem = &dynamos_subsystem_##subsys,			\
		.owner = THIS_MODULE,						\
		.replacements = dynamos_replacements_##edition,			\
	};									\
	static int __init dynamos_init_##edition(void)				\
	{									\
		return dynamos_register_edition(&dynamos_edition_##edition);	\
	}									\
	static void __exit dynamos_exit_##edition(void)				\
	{									\
		dynamos_unregister_edition(&dynamos_edition_##edition);		\
	}									\
	module_init(dynamos_init_##edition);					\
	module_exit(dynamos_exit_##edition)

#endif /* _DYNAMOS_EDITION_H */
