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
 *	DYNAMOS_FUNCTION(pipe, pipe_write);
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
 * CAVEATS
 *
 * - A body runs in the context of the function's callers: with their locks held, in interrupts if they are.
 * - Two editions run side by side after a switch, for as long as a call lasts. Data that both touch must keep a
 *   layout which both understand, and correctness must not depend on which of them runs.
 * - A function that an edition does not replace goes to `original` while the edition is active.
 * - Functions with variable arguments cannot be gated. Neither should functions of other modules be: nothing keeps
 *   those from being unloaded under the gate.
 * - An edition's module cannot be removed while its edition is active or in flight: rmmod says EBUSY.
 */
#ifndef _DYNAMOS_EDITION_H
#define _DYNAMOS_EDITION_H

#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/linkage.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/static_call.h>
#include <asm/ibt.h>
#include <asm/nospec-branch.h>

#include <dynamos/trace.h>

/* Editions of one subsystem at a time, `original` among them. */
#define DYNAMOS_MAX_EDITIONS 16

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

/*
 * One gateable function. Made by DYNAMOS_FUNCTION(); `id` is written by the core when the subsystem is registered,
 * before any gate is installed, and not again.
 */
struct dynamos_function {
	const char *name;
	void *gate;
	unsigned long *entries;		/* the gate's table: one wrapper per edition, written by the core */
	void (*bind)(unsigned long body);
	struct dynamos_replacement original;
	u32 id;
	void *core;			/* the core's own data; NULL while not registered */
};

/* `index` and `core` are written by the core while the edition is being registered, and not while it can run. */
struct dynamos_edition {
	const char *name;
	struct dynamos_subsystem *subsystem;
	struct module *owner;
	const struct dynamos_replacement *const *replacements;	/* ends with NULL */
	u32 index;
	void *core;
};

struct dynamos_subsystem {
	const char *name;
	struct module *owner;
	struct dynamos_function *const *functions;		/* ends with NULL */
	unsigned int *active;		/* the one word that the gates read; written by a switch only */
	struct dynamos_edition *original;
	void *core;
};

/*
 * All four may sleep; call them from module init and exit only. Registering fails with -EEXIST (the name is taken),
 * -EINVAL (a name or a table is malformed, or a function is not traceable), -ENOENT (no such function in this
 * kernel), -EBUSY (somebody else holds a function's entry), -ENOSPC (too many editions) or -ENOMEM, and then leaves
 * nothing behind; the kernel log names the function.
 */
int dynamos_register_subsystem(struct dynamos_subsystem *subsystem);
void dynamos_unregister_subsystem(struct dynamos_subsystem *subsystem);
int dynamos_register_edition(struct dynamos_edition *edition);
void dynamos_unregister_edition(struct dynamos_edition *edition);

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
		this_cpu_inc(counts.returned);					\
	} while (0)

#define __DYNAMOS_WRAPPER_SCALAR(name, function, edition, counts, body, type, parameters, arguments) \
	static type name parameters						\
	{									\
		type dynamos_ret;						\
										\
		__DYNAMOS_ENTER(function, edition, counts, arguments);		\
		dynamos_ret = body arguments;					\
		__DYNAMOS_LEAVE(function, edition, counts, (u64)(unsigned long)dynamos_ret); \
		return dynamos_ret;						\
	}

#define __DYNAMOS_WRAPPER_STRUCT(name, function, edition, counts, body, type, parameters, arguments) \
	static type name parameters						\
	{									\
		type dynamos_ret;						\
										\
		__DYNAMOS_ENTER(function, edition, counts, arguments);		\
		dynamos_ret = body arguments;					\
		__DYNAMOS_LEAVE(function, edition, counts, 0);			\
		return dynamos_ret;						\
	}

#define __DYNAMOS_WRAPPER_VOID(name, function, edition, counts, body, type, parameters, arguments) \
	static void name parameters						\
	{									\
		__DYNAMOS_ENTER(function, edition, counts, arguments);		\
		body arguments;							\
		__DYNAMOS_LEAVE(function, edition, counts, 0);			\
	}

/* Call-depth tracking (the mitigation for RSB underflow) must hear of the call that ftrace patched in. */
#ifdef CALL_DEPTH_ACCOUNT
#define __DYNAMOS_CALL_DEPTH CALL_DEPTH_ACCOUNT
#else
#define __DYNAMOS_CALL_DEPTH ""
#endif

/*
 * The gate: reached by a call from the function's first instruction, so that the top of the stack is the address
 * behind that call. Replaces it with the active edition's wrapper and returns there: the caller's own return address,
 * all argument registers and all stack arguments are as the caller left them, and calls and returns stay balanced.
 * Clobbers r11 only, which no calling convention of the kernel keeps over a call. Runs in any context.
 *
 * The index is below DYNAMOS_MAX_EDITIONS and every slot of the table holds a wrapper at all times.
 */
#define __DYNAMOS_GATE(subsystem, function)					\
	void dynamos_gate_##function(void);					\
	asm(".pushsection .text, \"ax\", @progbits\n"				\
	    "	.balign 16\n"							\
	    "	.type dynamos_gate_" #function ", @function\n"			\
	    "	.globl dynamos_gate_" #function "\n"				\
	    "dynamos_gate_" #function ":\n"					\
	    ASM_ENDBR								\
	    __DYNAMOS_CALL_DEPTH						\
	    "	movl dynamos_active_" #subsystem "(%rip), %r11d\n"		\
	    "	movq dynamos_entries_" #function "(,%r11,8), %r11\n"		\
	    "	movq %r11, (%rsp)\n"						\
	    ASM_RET								\
	    "	.size dynamos_gate_" #function ", . - dynamos_gate_" #function "\n" \
	    ".popsection\n")

#define DYNAMOS_FUNCTION(subsystem, function) \
	__DYNAMOS_APPLY(__DYNAMOS_FUNCTION, subsystem, function, DYNAMOS_PROTOTYPE_##function)
#define __DYNAMOS_FUNCTION(subsystem, fn, kind, type, parameters, arguments)	\
	extern unsigned int dynamos_active_##subsystem;				\
	extern struct dynamos_edition dynamos_original_##subsystem;		\
	extern unsigned long dynamos_entries_##fn[DYNAMOS_MAX_EDITIONS];	\
	unsigned long dynamos_entries_##fn[DYNAMOS_MAX_EDITIONS] __read_mostly;	\
	__DYNAMOS_GATE(subsystem, fn);						\
	DEFINE_STATIC_CALL_NULL(dynamos_body_##fn, dynamos_type_##fn);		\
	EXPORT_STATIC_CALL_GPL(dynamos_body_##fn);				\
	static void dynamos_bind_##fn(unsigned long body)			\
	{									\
		static_call_update(dynamos_body_##fn, (dynamos_type_##fn *)body); \
	}									\
	static DEFINE_PER_CPU(struct dynamos_counts, dynamos_counts_original_##fn); \
	__DYNAMOS_WRAPPER_##kind(dynamos_original_##fn, dynamos_function_##fn,	\
				 dynamos_original_##subsystem, dynamos_counts_original_##fn, \
				 static_call(dynamos_body_##fn), type, parameters, arguments) \
	struct dynamos_function dynamos_function_##fn = {			\
		.name = #fn,							\
		.gate = dynamos_gate_##fn,					\
		.entries = dynamos_entries_##fn,				\
		.bind = dynamos_bind_##fn,					\
		.original = {							\
			.function = &dynamos_function_##fn,			\
			.wrapper = dynamos_original_##fn,			\
			.counts = &dynamos_counts_original_##fn,		\
		},								\
	};									\
	EXPORT_SYMBOL_GPL(dynamos_function_##fn)

#define DYNAMOS_SUBSYSTEM(subsys, ...)						\
	unsigned int dynamos_active_##subsys __read_mostly;			\
	static struct dynamos_function *const dynamos_functions_##subsys[] = {	\
		__VA_ARGS__, NULL						\
	};									\
	struct dynamos_edition dynamos_original_##subsys = {			\
		.name = "original",						\
		.subsystem = &dynamos_subsystem_##subsys,			\
		.owner = THIS_MODULE,						\
	};									\
	struct dynamos_subsystem dynamos_subsystem_##subsys = {			\
		.name = #subsys,						\
		.owner = THIS_MODULE,						\
		.functions = dynamos_functions_##subsys,			\
		.active = &dynamos_active_##subsys,				\
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
	static const struct dynamos_replacement *const dynamos_replacements_##edition[] = { \
		__VA_ARGS__, NULL						\
	};									\
	static struct dynamos_edition dynamos_edition_##edition = {		\
		.name = #edition,						\
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
