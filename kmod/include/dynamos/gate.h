/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dynamos/gate.h - the code at a function's entry, and the words it reads; included by dynamos/edition.h
 *
 * Every gateable function has, in its subsystem's module, a table of places to go to: one slot for each edition, and
 * behind those the slots of the modes that need more than an index. A gate goes where the subsystem's one word says.
 *
 *	slot		leads to				which goes to
 *	0..15		the edition's wrapper			the edition's body
 *	DISPATCH	dynamos_dispatch_<function>, in C	whatever the core decides, and comes back (exclusive,
 *								per-object)
 *	CHOOSE		dynamos_choose_<function>		the wrapper that the scope's handler picks
 *	CPU		dynamos_choose_cpu_<function>		the wrapper that this CPU's word names
 *	TASK		dynamos_choose_task_<function>		the wrapper for tasks in the scope's set, or for others
 *
 * All of it runs in any context, and may touch r10 and r11 only: no calling convention of the kernel keeps those over
 * a call, and everything else is as the function's caller left it. The last three leave nothing on the stack: when the
 * edition runs, they are not there any more.
 */
#ifndef _DYNAMOS_GATE_H
#define _DYNAMOS_GATE_H

#include <linux/linkage.h>
#include <linux/objtool.h>
#include <linux/preempt.h>
#include <linux/stringify.h>
#include <linux/types.h>
#include <linux/version.h>
#include <asm/current.h>
#include <asm/ibt.h>
#include <asm/nospec-branch.h>
#include <asm/unwind_hints.h>

/* Editions of one subsystem at a time, `original` among them; below 64. */
#define DYNAMOS_MAX_EDITIONS 16

/* Plain numbers: they are part of assembly text. */
#define DYNAMOS_SLOT_DISPATCH 16
#define DYNAMOS_SLOT_CHOOSE 17
#define DYNAMOS_SLOT_CPU 18
#define DYNAMOS_SLOT_TASK 19
#define DYNAMOS_SLOTS 20

/*
 * The set of tasks of a task scope: an array of pointers, open addressing. A task's first place, in bytes from the
 * array's start, is ((u32)pointer * MIX >> SHIFT) & MASK: tasks come in large aligned blocks, so that no few bits of a
 * pointer tell them apart, but the upper ones of a product do.
 */
#define DYNAMOS_TASKS_MIX 0x61c88647
#define DYNAMOS_TASKS_SHIFT 17
#define DYNAMOS_TASKS_MASK 0x7ff8
#define DYNAMOS_TASKS (DYNAMOS_TASKS_MASK / 8 + 1)

/* Where a call is made from an interrupt, `current` is not who makes it. */
#define __DYNAMOS_NOT_IN_TASK 0x00ff0100
static_assert(__DYNAMOS_NOT_IN_TASK == (NMI_MASK | HARDIRQ_MASK | SOFTIRQ_OFFSET));

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define __DYNAMOS_CURRENT "%gs:current_task(%rip)"
#define __DYNAMOS_PREEMPT_COUNT "%gs:__preempt_count(%rip)"
#else
#define __DYNAMOS_CURRENT "%gs:pcpu_hot(%rip)"
#define __DYNAMOS_PREEMPT_COUNT "%gs:pcpu_hot+8(%rip)"
static_assert(offsetof(struct pcpu_hot, current_task) == 0 && offsetof(struct pcpu_hot, preempt_count) == 8);
#endif

/* Call-depth tracking (the mitigation for RSB underflow) must hear of the call that ftrace patched in. */
#ifdef CALL_DEPTH_ACCOUNT
#define __DYNAMOS_CALL_DEPTH CALL_DEPTH_ACCOUNT
#else
#define __DYNAMOS_CALL_DEPTH ""
#endif

#define __DYNAMOS_ASM_BEGIN(name)						\
	".pushsection .text, \"ax\", @progbits\n"				\
	"	.balign 16\n"							\
	"	.type " name ", @function\n"					\
	"	.globl " name "\n"						\
	name ":\n"								\
	ASM_ENDBR
#define __DYNAMOS_ASM_END(name)							\
	"	.size " name ", . - " name "\n"					\
	".popsection\n"

/*
 * The gate: reached by a call from the function's first instruction, so that the top of the stack is the address
 * behind that call. Replaces it with the place to go to and returns there: the caller's own return address, all
 * argument registers and all stack arguments are as the caller left them, and calls and returns stay balanced.
 *
 * The word is below DYNAMOS_SLOTS and every slot of the table holds an address at all times.
 */
#define __DYNAMOS_GATE(subsystem, function)					\
	void dynamos_gate_##function(void);					\
	asm(__DYNAMOS_ASM_BEGIN("dynamos_gate_" #function)			\
	    __DYNAMOS_CALL_DEPTH						\
	    "	movl dynamos_active_" #subsystem "(%rip), %r11d\n"		\
	    "	movq dynamos_entries_" #function "(,%r11,8), %r11\n"		\
	    "	movq %r11, (%rsp)\n"						\
	    ASM_RET								\
	    __DYNAMOS_ASM_END("dynamos_gate_" #function))

/*
 * Reached by the gate's return, with the caller's return address on top of the stack: goes on by pushing where to and
 * returning there. The hint tells the unwinder's tables that this return is one like the gate's.
 */
#define __DYNAMOS_GO_TO_R11							\
	"	pushq %r11\n"							\
	UNWIND_HINT_FUNC							\
	ASM_RET

/* The general one: asks dynamos_choose(), which sees the argument registers as an array of six. */
#define __DYNAMOS_CHOOSE(subsystem, function)					\
	void dynamos_choose_##function(void);					\
	asm(__DYNAMOS_ASM_BEGIN("dynamos_choose_" #function)			\
	    "	pushq %rax\n"							\
	    "	pushq %r9\n"							\
	    "	pushq %r8\n"							\
	    "	pushq %rcx\n"							\
	    "	pushq %rdx\n"							\
	    "	pushq %rsi\n"							\
	    "	pushq %rdi\n"							\
	    "	movq %rsp, %rsi\n"						\
	    "	movq $dynamos_function_" #function ", %rdi\n"			\
	    "	call dynamos_choose\n"						\
	    "	movq %rax, %r11\n"						\
	    "	popq %rdi\n"							\
	    "	popq %rsi\n"							\
	    "	popq %rdx\n"							\
	    "	popq %rcx\n"							\
	    "	popq %r8\n"							\
	    "	popq %r9\n"							\
	    "	popq %rax\n"							\
	    __DYNAMOS_GO_TO_R11							\
	    __DYNAMOS_ASM_END("dynamos_choose_" #function))

/* By CPU: each has a word of its own. */
#define __DYNAMOS_CHOOSE_CPU(subsystem, function)				\
	void dynamos_choose_cpu_##function(void);				\
	asm(__DYNAMOS_ASM_BEGIN("dynamos_choose_cpu_" #function)		\
	    "	movl %gs:dynamos_cpu_route_" #subsystem "(%rip), %r11d\n"	\
	    "	movq dynamos_entries_" #function "(,%r11,8), %r11\n"		\
	    __DYNAMOS_GO_TO_R11							\
	    __DYNAMOS_ASM_END("dynamos_choose_cpu_" #function))

/* By task: decided by one look into the set, unless another task has the place; then the general one looks further. */
#define __DYNAMOS_CHOOSE_TASK(subsystem, function)				\
	void dynamos_choose_task_##function(void);				\
	asm(__DYNAMOS_ASM_BEGIN("dynamos_choose_task_" #function)		\
	    "	testl $" __stringify(__DYNAMOS_NOT_IN_TASK) ", " __DYNAMOS_PREEMPT_COUNT "\n" \
	    "	jnz 1f\n"							\
	    "	movq " __DYNAMOS_CURRENT ", %r10\n"				\
	    "	imull $" __stringify(DYNAMOS_TASKS_MIX) ", %r10d, %r11d\n"	\
	    "	shrl $" __stringify(DYNAMOS_TASKS_SHIFT) ", %r11d\n"		\
	    "	andl $" __stringify(DYNAMOS_TASKS_MASK) ", %r11d\n"		\
	    "	addq dynamos_route_" #subsystem "(%rip), %r11\n"		\
	    "	cmpq %r10, (%r11)\n"						\
	    "	je 2f\n"							\
	    "	cmpq $0, (%r11)\n"						\
	    "	jne dynamos_choose_" #function "\n"				\
	    "1:	movl dynamos_route_" #subsystem "+8(%rip), %r11d\n"		\
	    "	jmp 3f\n"							\
	    "2:	movl dynamos_route_" #subsystem "+12(%rip), %r11d\n"		\
	    "3:	movq dynamos_entries_" #function "(,%r11,8), %r11\n"		\
	    __DYNAMOS_GO_TO_R11							\
	    __DYNAMOS_ASM_END("dynamos_choose_task_" #function))

/* What the code above reads besides the active word. Written by the core, before it sends a gate there. */
struct dynamos_route {
	struct task_struct **tasks;	/* DYNAMOS_TASKS of them, or NULL */
	u32 base;			/* index of the edition for those outside of the scope */
	u32 chosen;			/* and for those inside */
};

static_assert(offsetof(struct dynamos_route, tasks) == 0);
static_assert(offsetof(struct dynamos_route, base) == 8);
static_assert(offsetof(struct dynamos_route, chosen) == 12);

#endif /* _DYNAMOS_GATE_H */
