// SPDX-License-Identifier: GPL-2.0
/*
 * gate.c - finding a function's entry, putting its gate there and taking it away
 *
 * Two back ends, both of them ftrace's: the kernel patches the text (int3-safe, no stop_machine); we never do.
 *
 *	direct	the function's __fentry__ site calls the gate itself, which is in the subsystem's module
 *		(include/dynamos/gate.h). One user of that kind per function: eBPF's fentry and fexit are another.
 *	ftrace	the site calls ftrace, which calls redirect() below, which changes where it returns to: what livepatch
 *		does, and slower. Shares the function with eBPF, whose programs then run before and after an edition.
 *
 * Neither shares it with a livepatch: two who change where a call goes cannot both be right.
 */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "core.h"

enum backend { BACKEND_AUTO, BACKEND_DIRECT, BACKEND_FTRACE, BACKENDS };

static const char *const backend_names[] = { "auto", "direct", "ftrace" };

static enum backend backend_wanted;		/* written under kernel_param_lock() */

static int backend_set(const char *value, const struct kernel_param *param)
{
	int found = sysfs_match_string(backend_names, value);

	if (found < 0)
		return found;
	WRITE_ONCE(backend_wanted, found);
	return 0;
}

static int backend_get(char *buffer, const struct kernel_param *param)
{
	return sprintf(buffer, "%s\n", backend_names[READ_ONCE(backend_wanted)]);
}

static const struct kernel_param_ops backend_ops = {
	.set = backend_set,
	.get = backend_get,
};
module_param_cb(backend, &backend_ops, NULL, 0644);
MODULE_PARM_DESC(backend, "how gates that are installed from now on send calls on: auto, direct or ftrace");

struct gate {
	struct ftrace_ops direct;
	struct ftrace_ops ftrace;
	struct dynamos_function *function;
	unsigned long site;		/* the __fentry__ call, 4 bytes into the function where it starts with ENDBR */
	unsigned long cold;		/* the function's cold part; 0: it has none */
	enum backend backend;		/* BACKEND_AUTO: not installed; dynamos_lock */
};

/* What the compiler took for unlikely of a function stands elsewhere, under a name of its own. */
#define COLD ".cold"

/* A kprobe that is never armed is the way in which a module may ask where a function is. */
static int find_text(const struct dynamos_function *function, const char *suffix, unsigned long *address)
{
	const char *home = function->traits->home;
	char name[2 * DYNAMOS_NAME_MAX + sizeof(COLD) + 1];
	struct kprobe probe = {
		.symbol_name = name,
		.flags = KPROBE_FLAG_DISABLED,
	};
	int err;

	snprintf(name, sizeof(name), "%s%s%s%s", home ?: "", home ? ":" : "", function->name, suffix);
	err = failable(register_kprobe(&probe), -ENOMEM);
	if (err)
		return err;
	*address = (unsigned long)probe.addr;
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

/* With the sysctl kernel.ftrace_enabled at 0, ftrace says yes to everything and does nothing. */
static bool site_is_patched(unsigned long site)
{
	u8 insn;

	return !copy_from_kernel_nofault(&insn, (void *)site, sizeof(insn)) && insn == 0xe8;
}

/*
 * Called by ftrace at the function's entry, in any context, with preemption off or not. Calls nothing that can be
 * traced, and so needs no protection from being called by itself.
 */
static void notrace redirect(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			     struct ftrace_regs *regs)
{
	struct gate *gate = container_of(ops, struct gate, ftrace);
	struct dynamos_function *function = gate->function;

	compat_go_to(regs, READ_ONCE(function->entries[READ_ONCE(*function->subsystem->active)]));
}

static int set_filters(struct gate *gate)
{
	int err;

	err = failable(ftrace_set_filter_ip(&gate->direct, gate->site, 0, 0), -ENOMEM);
	if (!err)
		err = failable(ftrace_set_filter_ip(&gate->ftrace, gate->site, 0, 0), -ENOMEM);
	if (!err && !site_is_entry(gate->site))
		err = -EINVAL;
	return err;
}

/* The gate must have been removed. */
void gate_destroy(struct gate *gate)
{
	WARN_ON(gate->backend);
	ftrace_free_filter(&gate->direct);
	ftrace_free_filter(&gate->ftrace);
	kfree(gate);
}

static int find_site(struct gate *gate, struct request *request)
{
	const struct dynamos_function *function = gate->function;
	int err;

	err = find_text(function, "", &gate->site);
	if (err == -ENOENT)
		request_reason(request, "%s: there is no such function in this kernel", function->name);
	else if (err)
		request_reason(request, "%s: no function, or one that may not be probed (%d)", function->name, err);
	if (err)
		return err;
	err = deny_text(function, gate->site, request);
	if (err)
		return err;
	err = set_filters(gate);
	if (err)
		request_reason(request, "%s: its entry cannot be traced (%d)", function->name, err);
	return err;
}

/* Finds a function that may be gated. Nobody can tell that it was looked for. */
static struct gate *gate_find(struct dynamos_function *function, struct request *request)
{
	struct gate *gate;
	int err;

	err = deny_name(function->name, function->traits->home, request);
	if (err)
		return ERR_PTR(err);
	gate = failable(kzalloc(sizeof(*gate), GFP_KERNEL), NULL);
	if (!gate)
		return ERR_PTR(-ENOMEM);
	gate->function = function;
	gate->ftrace.func = redirect;
	gate->ftrace.flags = FTRACE_OPS_FL_IPMODIFY;

	err = find_site(gate, request);
	if (err) {
		gate_destroy(gate);
		return ERR_PTR(err);
	}
	return gate;
}

/**
 * gate_create() - find a function and prepare its gate; nothing is patched yet
 * @function: of which the body is bound: its original can be called from now on
 * @request: gets the sentence when the answer is no
 *
 * Return: the gate, or an error pointer: -ENOENT no such function in this kernel, -EPERM it must not be gated,
 * -EINVAL it cannot be probed or traced, or is of a module that was not named, -ENOMEM.
 */
struct gate *gate_create(struct dynamos_function *function, struct request *request)
{
	struct gate *gate = gate_find(function, request);
	int err;

	if (IS_ERR(gate))
		return gate;
	err = find_text(function, COLD, &gate->cold);
	/* Most have none. Who would be in it must not be missed for want of memory. */
	if (err == -ENOMEM) {
		gate_destroy(gate);
		return ERR_PTR(err);
	}
	function->bind(gate->site + MCOUNT_INSN_SIZE);
	return gate;
}

/**
 * gate_check() - could a gate be made for a function of this name now?
 * @name: the name
 * @home: the module that has it; NULL: the kernel itself
 * @request: gets the sentence when the answer is no
 *
 * Whether its entry is free is not asked: that may change at any time. Return: 0, or as for gate_create().
 */
int gate_check(const char *name, const char *home, struct request *request)
{
	const struct dynamos_function_traits traits = { .home = home };
	struct dynamos_function function = { .name = name, .traits = &traits };
	struct gate *gate;

	lockdep_assert_held(&dynamos_lock);
	gate = gate_find(&function, request);
	if (IS_ERR(gate))
		return PTR_ERR(gate);
	gate_destroy(gate);
	return 0;
}

/* From a success on, the sysctl cannot be set to 0, which would take the gate out behind our back. */
static int keep_if_patched(struct gate *gate, struct ftrace_ops *ops)
{
	if (!failable(site_is_patched(gate->site), false))
		return -EAGAIN;
	ops->flags |= FTRACE_OPS_FL_PERMANENT;
	return 0;
}

static int install_direct(struct gate *gate)
{
	unsigned long address = (unsigned long)gate->function->gate;
	int err;

	err = failable(compat_register_direct(&gate->direct, address), -ENOMEM);
	if (err) {
		/* 6.1 leaves these set when somebody else holds the entry, and would refuse the next attempt for it. */
		gate->direct.func = NULL;
		gate->direct.trampoline = 0;
		return err;
	}
	err = keep_if_patched(gate, &gate->direct);
	if (err)
		compat_unregister_direct(&gate->direct, address);
	return err;
}

static int install_ftrace(struct gate *gate)
{
	int err;

	err = failable(register_ftrace_function(&gate->ftrace), -ENOMEM);
	if (err)
		return err;
	err = keep_if_patched(gate, &gate->ftrace);
	if (err)
		unregister_ftrace_function(&gate->ftrace);
	return err;
}

static void refuse(const struct gate *gate, enum backend wanted, int err, struct request *request)
{
	const char *name = gate->function->name;

	if (err == -EAGAIN)
		request_reason(request, "%s: ftrace is switched off (sysctl kernel.ftrace_enabled), or busy", name);
	else if (err == -EBUSY && wanted == BACKEND_DIRECT)
		request_reason(request, "%s: its entry is held by eBPF, a livepatch or another module", name);
	else if (err == -EBUSY)
		request_reason(request, "%s: a livepatch, or another that redirects it, holds its entry", name);
	else
		request_reason(request, "%s: its entry could not be taken (%d)", name, err);
}

/**
 * gate_install() - from its return on, every call that enters the function goes through the gate
 * @gate: which may be there already
 * @request: gets the sentence when the answer is no
 *
 * Return: 0; -EBUSY somebody else holds the entry, -EAGAIN ftrace is switched off.
 */
int gate_install(struct gate *gate, struct request *request)
{
	enum backend wanted = READ_ONCE(backend_wanted);
	int err = -EBUSY;

	lockdep_assert_held(&dynamos_lock);
	if (gate->backend)
		return 0;
	if (wanted != BACKEND_FTRACE) {
		err = install_direct(gate);
		if (!err)
			gate->backend = BACKEND_DIRECT;
	}
	if (wanted == BACKEND_FTRACE || (wanted == BACKEND_AUTO && err == -EBUSY)) {
		err = install_ftrace(gate);
		if (!err)
			gate->backend = BACKEND_FTRACE;
	}
	if (err)
		refuse(gate, wanted, err, request);
	return err;
}

/*
 * Afterwards the function's text is as it was; calls that went through the gate before may still be anywhere.
 * Fails only when ftrace has given up on itself; then the gate is still there.
 */
int gate_remove(struct gate *gate)
{
	int err = 0;

	lockdep_assert_held(&dynamos_lock);
	if (gate->backend == BACKEND_DIRECT)
		err = compat_unregister_direct(&gate->direct, (unsigned long)gate->function->gate);
	else if (gate->backend == BACKEND_FTRACE)
		err = unregister_ftrace_function(&gate->ftrace);
	if (WARN(err, "dynamos: %s: its gate could not be taken out (%d)\n", gate->function->name, err))
		return err;
	gate->backend = BACKEND_AUTO;
	/* Or ftrace, when it is switched off, would refuse the next attempt as if somebody held the entry. */
	gate->ftrace.flags &= ~FTRACE_OPS_FL_PERMANENT;
	return 0;
}

const char *gate_backend(const struct gate *gate)
{
	return gate->backend ? backend_names[gate->backend] : "none";
}

unsigned long gate_site(const struct gate *gate)
{
	return gate->site;
}

unsigned long gate_cold(const struct gate *gate)
{
	return gate->cold;
}
