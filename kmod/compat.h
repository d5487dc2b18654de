/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every difference between the kernels we build on, and nothing else. A difference of interface, not of version,
 * decides where the compiler can tell the two apart.
 */
#ifndef _DYNAMOS_COMPAT_H
#define _DYNAMOS_COMPAT_H

#include <linux/ftrace.h>
#include <linux/percpu.h>
#include <linux/version.h>
#include <asm/current.h>

/*
 * Until 6.5 the calls that take an ftrace_ops were named ..._multi, beside older ones that took an address; then
 * da8bdfbd4223 ("ftrace: Rename _ftrace_direct_multi APIs to _ftrace_direct APIs") gave them the plain names.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
static inline int compat_register_direct(struct ftrace_ops *ops, unsigned long gate)
{
	return register_ftrace_direct_multi(ops, gate);
}

static inline int compat_unregister_direct(struct ftrace_ops *ops, unsigned long gate)
{
	return unregister_ftrace_direct_multi(ops, gate);
}
#else
static inline int compat_register_direct(struct ftrace_ops *ops, unsigned long gate)
{
	return register_ftrace_direct(ops, gate);
}

static inline int compat_unregister_direct(struct ftrace_ops *ops, unsigned long gate)
{
	return unregister_ftrace_direct(ops, gate, false);
}
#endif

/* What says where a traced call goes on has another name in newer kernels; both are macros on x86. */
#ifdef ftrace_regs_set_instruction_pointer
#define compat_go_to(regs, address) ftrace_regs_set_instruction_pointer(regs, address)
#else
#define compat_go_to(regs, address) ftrace_instruction_pointer_set(regs, address)
#endif

/* Where a CPU has the task that it runs: since 6.2 beside what else is often needed, in one cache line. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define compat_current_on(cpu) per_cpu_ptr(&current_task, cpu)
#else
#define compat_current_on(cpu) per_cpu_ptr(&pcpu_hot.current_task, cpu)
#endif

#endif /* _DYNAMOS_COMPAT_H */
