// SPDX-License-Identifier: GPL-2.0
/*
 * gate.c - finding a function's entry, putting its gate there and taking it away
 *
 * The gate's code is in the subsystem's module (include/dynamos/edition.h); here ftrace is told to call it from the
 * function's __fentry__ site. The kernel patches the text (int3-safe, no stop_machine); we never do.
 */
#include <linux/ftrace.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "core.h"

struct gate {
	struct ftrace_ops ops;
	struct dynamos_function *function;
	unsigned long site;		/* the __fentry__ call, 4 bytes into the function where it starts with ENDBR */
	bool installed;			/* dynamos_lock; sysfs reads it without */
};

/* A kprobe that is never armed is the way in which a module may ask where a function is. */
static int find_site(const char *name, unsigned long *site)
{
	struct kprobe probe = {
		.symbol_name = name,
		.flags = KPROBE_FLAG_DISABLED,
	};
	int err;

	err = register_kprobe(&probe);
	if (err)
		return err;
	*site = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	return 0;
}

/*
 * What runs behind the site is the function's body only if the site is what we take it for: the five bytes of a
 * traced entry, a NOP while nobody traces it and a CALL while somebody does.
 */
static bool site_is_entry(unsigned long site)
{
	static const u8 nop[MCOUNT_INSN_SIZE] = { 0x0f, 0x1f, 0x44, 0x00, 0x00 };
	u8 insn[MCOUNT_INSN_SIZE];

	if (copy_from_kernel_nofault(insn, (void *)site, sizeof(insn)))
		return false;
	return insn[0] == 0xe8 || !memcmp(insn, nop, sizeof(nop));
}

/**
 * gate_create() - find a function and prepare its gate; nothing is patched yet
 * @function: of which the body is bound: its original can be called from now on
 *
 * Return: the gate, or an error pointer: -ENOENT no such function in this kernel, -EINVAL it cannot be traced,
 * -ENOMEM.
 */
struct gate *gate_create(struct dynamos_function *function)
{
	struct gate *gate;
	int err;

	gate = kzalloc(sizeof(*gate), GFP_KERNEL);
	if (!gate)
		return ERR_PTR(-ENOMEM);
	gate->function = function;

	err = find_site(function->name, &gate->site);
	if (err) {
		pr_err("dynamos: %s: not found in this kernel or not allowed to be probed (%d)\n",
		       function->name, err);
		goto fail;
	}
	err = ftrace_set_filter_ip(&gate->ops, gate->site, 0, 0);
	if (!err && !site_is_entry(gate->site))
		err = -EINVAL;
	if (err) {
		pr_err("dynamos: %s: its entry cannot be traced (%d)\n", function->name, err);
		goto fail;
	}
	function->bind(gate->site + MCOUNT_INSN_SIZE);
	return gate;

fail:
	ftrace_free_filter(&gate->ops);
	kfree(gate);
	return ERR_PTR(err);
}

/* The gate must have been removed. */
void gate_destroy(struct gate *gate)
{
	WARN_ON(gate->installed);
	ftrace_free_filter(&gate->ops);
	kfree(gate);
}

static int take_entry(struct gate *gate)
{
	unsigned long address = (unsigned long)gate->function->gate;
	u8 insn;
	int err;

	err = compat_register_direct(&gate->ops, address);
	if (err) {
		/* 6.1 leaves these set when somebody else holds the entry, and would refuse the next attempt for it. */
		gate->ops.func = NULL;
		gate->ops.trampoline = 0;
		return err;
	}
	/* With the sysctl kernel.ftrace_enabled at 0, ftrace says yes and does nothing. */
	if (copy_from_kernel_nofault(&insn, (void *)gate->site, sizeof(insn)) || insn != 0xe8) {
		compat_unregister_direct(&gate->ops, address);
		return -EBUSY;
	}
	/* From now on that sysctl cannot be set to 0, which would take the gate out behind our back. */
	gate->ops.flags |= FTRACE_OPS_FL_PERMANENT;
	return 0;
}

/* From its return on, every call that enters the function goes through the gate. */
int gate_install(struct gate *gate)
{
	int err;

	lockdep_assert_held(&dynamos_lock);
	if (gate->installed)
		return 0;
	err = take_entry(gate);
	if (err) {
		pr_err("dynamos: %s: its entry could not be taken (%d)\n", gate->function->name, err);
		if (err == -EBUSY)
			pr_err("dynamos: a livepatch, eBPF or another module holds it, or ftrace is disabled\n");
		return err;
	}
	WRITE_ONCE(gate->installed, true);
	return 0;
}

/*
 * Afterwards the function's text is as it was; calls that went through the gate before may still be anywhere.
 * Fails only when ftrace has given up on itself; then the gate is still there.
 */
int gate_remove(struct gate *gate)
{
	int err;

	lockdep_assert_held(&dynamos_lock);
	err = compat_unregister_direct(&gate->ops, (unsigned long)gate->function->gate);
	if (WARN(err, "dynamos: %s: its gate could not be taken out (%d)\n", gate->function->name, err))
		return err;
	WRITE_ONCE(gate->installed, false);
	return 0;
}

const char *gate_backend(const struct gate *gate)
{
	return READ_ONCE(gate->installed) ? "direct" : "none";
}

unsigned long gate_address(const struct gate *gate)
{
	return gate->site;
}
