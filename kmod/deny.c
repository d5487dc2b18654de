// SPDX-License-Identifier: GPL-2.0
/*
 * deny.c - functions that could be gated, and must not be
 *
 * Most of what must not be gated cannot be: text that is not traced (notrace, noinstr, the entry code, NMI handlers,
 * ftrace itself, lib/) has no site for a gate, and what must not be probed is not found in the first place. gate.c
 * learns that from the kernel. What is left is listed here, each with a reason, in four kinds: whoever enters it does
 * not leave again; a gate is made, unmade or looked into by means of it; the machine says with it what has gone wrong;
 * and, above all, a call's own way through a gate leads through it, so that a gate there would call itself for ever.
 *
 * What the gates' code calls directly is held against this list by tests/kernel/test_deny.py, on each kernel; what
 * those functions call in turn was read from the kernels' text, and is followed at run time by the same test.
 *
 * Functions that cannot sleep are neither held nor woken by a gate. So the scheduler's own decisions, which are made
 * below schedule() and try_to_wake_up(), are not here: select_task_rq_fair may be gated.
 */
#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/string.h>

#include "core.h"

/*
 * A name stands for itself, with any number of underscores before it and any suffix that the compiler put behind it
 * (".part.0"); one that ends with an asterisk, for all names that begin so. A name in a list need not be there in every
 * kernel. The lists are for the kernel's own functions: in a module, the same word may mean something else.
 */
struct group {
	const char *reason;		/* begins where "<function> is not gated: " ends; at most 80 characters */
	const char *const *names;	/* ends with NULL */
};

/* Idle threads, and threads that were inside from their beginning: their stacks are not looked at, or never clear. */
static const char *const always_inside[] = {
	"schedule", "schedule_idle", "schedule_preempt_disabled", "preempt_schedule*", "do_idle",
	"cpu_startup_entry", "call_cpuidle", "cpu_idle_poll", "cpuidle_enter*", "default_idle*",
	"arch_cpu_idle*", "intel_idle*", "acpi_idle_*", "mwait_idle*", "play_idle*", "rest_init",
	"ret_from_fork*", "kernel_init", "kthread", "kthreadd", "kthread_worker_fn", "worker_thread",
	"rescuer_thread", "smpboot_thread_fn",
	NULL
};

static const char *const other_thread[] = {
	"schedule_tail", "switch_to*", "switch_mm*", "finish_task_switch",
	NULL
};

static const char *const no_return[] = {
	"do_exit", "do_group_exit", "make_task_dead", "do_task_dead", "kthread_exit",
	"kthread_complete_and_exit", "module_put_and_kthread_exit", "x64_sys_exit*", "ia32_sys_exit*",
	"get_signal", "arch_do_signal_or_restart", "exit_to_user_mode_prepare", "panic", "nmi_panic*",
	"panic_smp_self_stop", "crash_kexec", "crash_smp_send_stop", "crash_nmi_callback", "x64_sys_reboot",
	"ia32_sys_reboot", "kernel_restart", "kernel_halt", "kernel_power_off", "do_kernel_restart",
	"do_kernel_power_off", "emergency_restart", "machine_restart", "machine_halt", "machine_power_off",
	"machine_emergency_restart", "machine_real_restart", "machine_kexec", "native_machine_*",
	"stop_this_cpu", "stop_self", "play_dead_common", "native_play_dead", "hlt_play_dead",
	"cpuidle_play_dead", "cpuhp_report_idle_dead",
	NULL
};

static const char *const rcu[] = {
	"rcu_*", "srcu_*", "call_rcu*", "call_srcu*", "synchronize_rcu*", "synchronize_srcu*", "init_srcu*",
	"cleanup_srcu*", "process_srcu", "get_state_synchronize_*", "start_poll_synchronize_*",
	"poll_state_synchronize_*", "cond_synchronize_*", "kvfree_call_rcu*", "kfree_rcu_*", "kvfree_rcu_*",
	"schedule_delayed_monitor_work", "tasks_rcu*", "exit_tasks_rcu*", "check_all_holdout_tasks*", "trc_*",
	"note_gp_changes", "force_qs_rnp", "dyntick_save*", "invoke_rcu_*", "wakeme_after_rcu", "wait_rcu_*",
	"sync_rcu_*", "exp_funnel_lock", "strict_work_handler", "print_cpu_stall*", "wake_nocb_gp",
	"call_rcu_nocb_wake", "do_nocb_*", "swake_up_*", "prepare_to_swait*", "finish_swait", "ct_*",
	NULL
};

static const char *const tracing[] = {
	"trace_*", "traceiter_*", "probestub_*", "tracing_*", "ftrace_*", "ring_buffer_*", "rb_*",
	"tracepoint_*", "for_each_kernel_tracepoint", "perf_*", "x86_pmu_*", "intel_pmu_*", "amd_pmu_*",
	"bpf_*", "btf_*", "htab_*", "array_map_*", "pcpu_freelist_*", "kprobe*", "kretprobe*",
	"register_kprobe*", "unregister_kprobe*", "register_kretprobe*", "unregister_kretprobe*", "arm_kprobe*",
	"disarm_kprobe*", "arch_arm_kprobe", "arch_disarm_kprobe", "arch_prepare_kprobe", "enable_kprobe",
	"disable_kprobe", "aggr_pre_handler", "aggr_post_handler", "opt_pre_handler", "optimized_callback",
	"uprobe_*",
	NULL
};

static const char *const patching[] = {
	"text_poke*", "do_sync_core", "jump_label_*", "arch_jump_label*", "static_key_*", "static_call_*",
	"arch_static_call*", "alternatives_*", "apply_alternatives", "klp_*", "smp_call_function*",
	"on_each_cpu*", "generic_smp_call_function*", "generic_exec_single", "flush_smp_call_function*",
	"send_call_function*", "native_send_call_func*", "native_smp_send_reschedule",
	NULL
};

static const char *const printing[] = {
	"printk*", "vprintk*", "console_*", "nbcon_*", "devkmsg_*", "kmsg_*", "log_buf_*", "prb_reserve*",
	"prb_commit", "prb_final_commit", "prb_read_valid*", "prb_first*", "prb_next*", "desc_read*",
	"desc_make_final", "desc_update*", "data_alloc", "data_push_tail", "record_print_text", "info_print_*",
	"msg_add_*", "msg_print_ext*", "serial8250_console*", "uart_console*", "univ8250_console*",
	"vt_console*", "wake_up_klogd*", "down_trylock_console_sem", "up_console_sem", "defer_console_output",
	"warn", "warn_printk", "show_stack*", "show_regs*", "show_trace_log_lvl", "add_taint", "panic_*",
	"oops_*", "die", "die_addr", "die_body", "die_header",
	NULL
};

static const char *const exceptions[] = {
	"nmi_*", "sysvec_*", "common_interrupt", "do_trap*", "do_error_trap", "do_int3*", "fixup_exception",
	"ex_handler_*", "search_exception_tables", "search_kernel_exception_table", "search_module_extables",
	"search_bpf_extables", "do_kern_addr_fault", "kernelmode_fixup_or_oops", "page_fault_oops", "bad_area*",
	"math_error", "mce_*", "machine_check_*", "hw_breakpoint_*", "syscall_enter_*", "syscall_exit_*",
	"syscall_trace_enter", "exit_to_user_mode*", "switch_fpu_return", "irq_enter*", "irq_exit*",
	"raw_irqentry_*", "tick_irq_enter", "do_softirq*", "handle_softirqs", "raise_softirq*",
	NULL
};

static const char *const stacks[] = {
	"unwind_*", "orc_*", "stack_access_ok", "stack_type_name", "get_stack_info*", "stack_trace_*",
	"arch_stack_walk*", "filter_irq_stacks", "kernel_text_address", "is_module_text_address",
	"module_text_address", "module_address", "mod_find", "is_bpf_text_address", "is_insn_slot_addr",
	"in_gate_area_no_mm", "kallsyms_*", "sprint_symbol*", "stop_machine*", "multi_cpu_stop", "cpu_stop_*",
	"cpu_stopper_*", "stop_cpus*", "stop_one_cpu*", "stop_two_cpus", "stop_core_cpuslocked",
	"queue_stop_cpus_work",
	NULL
};

static const char *const waiting[] = {
	"wake_up*", "try_to_wake_up", "ttwu_*", "default_wake_function", "autoremove_wake_function",
	"init_wait_entry", "init_waitqueue_head", "prepare_to_wait*", "finish_wait", "add_wait_queue*",
	"remove_wait_queue", "schedule_timeout*", "cond_resched*", "raw_spin_*", "native_queued_spin_*",
	"pv_queued_spin_*", "queued_spin_*",
	"hrtimer_*", "remove_hrtimer", "enqueue_hrtimer", "tick_program_event", "clockevents_program_*",
	"clockevents_switch_state",
	NULL
};

/* Without sleeping, so that reclaim is not among them. */
static const char *const memory[] = {
	"kmalloc", "kmalloc_noprof", "kmalloc_trace", "kmalloc_cache*", "kmalloc_node*", "kmalloc_large*",
	"kmalloc_slab", "kmalloc_fix_flags", "kfree", "kvfree", "is_vmalloc_addr", "kmem_cache_alloc*",
	"kmem_cache_free*", "slab_alloc*", "slab_free*", "allocate_slab", "discard_slab", "free_slab",
	"free_to_partial_list", "deactivate_slab", "put_cpu_partial", "put_partials*", "unfreeze_partials*",
	"get_partial*", "setup_object", "free_large_kmalloc", "mempolicy_slab_node", "should_failslab",
	"gfp_pfmemalloc_allowed", "next_zones_zonelist", "cpuset_node_allowed", "alloc_pages*",
	"get_free_page*", "get_page_from_freelist", "rmqueue*", "bad_range", "check_new_page*",
	"should_fail_alloc_page", "policy_node*", "zone_watermark_*", "find_suitable_fallback",
	"steal_suitable_fallback",
	"move_freepages*", "get_pfnblock_flags_mask", "set_pfnblock_flags_mask", "wakeup_kswapd", "free_pages",
	"free_pages_ok", "free_unref_page*", "free_unref_folios", "free_one_page", "free_pcp*",
	"mod_zone_page_state", "mod_node_page_state", "get_random_*", "crng_*", "extract_entropy",
	"chacha_block_generic", "chacha_permute", "blake2s_*", "kernel_fpu_*", "irq_fpu_usable",
	"save_fpregs_to_fpstate", "xfd_validate_state", "kfence_*", "memcg_slab_*", "alloc_slab_obj_exts",
	"prep_compound_page", "node_dirty_ok", "node_page_state", "node_reclaim", "cond_accept_memory",
	"accept_page", "try_to_steal_block", "prep_move_freepages_block", "split_large_buddy",
	"page_reporting_notify", "shuffle_pick_tail", "pgdat_balanced", "wakeup_kcompactd",
	"deferred_grow_zone", "cpuset_nodemask_valid_mems_allowed", "interleave_nid", "interleave_nodes",
	"weighted_interleave_*", "alloc_page_interleave", "put_task_struct*",
	NULL
};

/* What kept memory is freed by, after a grace period. */
static const char *const deferring[] = {
	"queue_work*", "queue_delayed_work*", "mod_delayed_work*", "insert_work", "delayed_work_timer_fn",
	"try_to_grab_pending", "add_timer", "add_timer_on", "add_timer_local", "add_timer_global", "mod_timer*",
	"timer_delete", "lock_timer_base", "enqueue_timer", "detach_if_pending", "get_nohz_timer_target",
	"msecs_to_jiffies", "idle_cpu", "housekeeping_*", "sched_numa_find_closest", "pwq_*", "kick_pool",
	"move_linked_works", "kthread_data", "clear_pending_if_disabled", "set_work_pool_and_clear_pending",
	NULL
};

static const char *const clocks[] = {
	"ktime_get*", "read_hpet", "acpi_pm_read", "pvclock_*", "local_clock*",
	NULL
};

/* What a kernel that is built to find faults does besides: may one sleep here, locks, lists of free memory, leaks. */
static const char *const checking[] = {
	"might_sleep", "might_resched", "might_fault", "lockdep_*", "debug_lockdep_*", "debug_check_no_*",
	"debug_object_*", "do_raw_spin_*", "preempt_count_*", "fs_reclaim_*", "kasan_*", "kcsan_*", "kmemleak_*",
	"create_object", "delete_object*", "lookup_object", "find_and_get_object", "find_and_remove_object",
	"remove_object", "get_object", "put_object", "paint_ptr", "mem_pool_*", "free_object_rcu", "rcuhead_*",
	"virt_addr_valid", "alloc_debug_processing", "free_debug_processing", "alloc_consistency_checks",
	"free_consistency_checks", "check_object", "check_slab", "check_bytes_and_report", "check_pad_bytes",
	"check_valid_pointer", "slab_pad_check", "on_freelist", "init_object", "init_tracking", "set_track",
	"set_track_*", "fixup_red_left", "setup_object_debug", "setup_slab_debug", "stack_depot_*",
	NULL
};

/* Of any module. */
static const char *const own[] = {
	"dynamos_*",
	NULL
};

static const struct group groups[] = {
	{ "somebody is always inside it, so that an edition's text could never go again", always_inside },
	{ "in it one thread stops and another goes on", other_thread },
	{ "a call that does not return would never be counted out", no_return },
	{ "it is RCU's, which gates and editions are kept and freed by", rcu },
	{ "it is for tracing, which sees every call of an edition", tracing },
	{ "the kernel's text is changed by means of it, gates too", patching },
	{ "it is how the kernel says what has gone wrong", printing },
	{ "it is of the entry code, exceptions or NMIs, where a gate may not be used yet", exceptions },
	{ "stacks are read by means of it, to see who is inside", stacks },
	{ "callers wait at a gate and are woken by means of it: it would call itself", waiting },
	{ "gates get and free memory by means of it: it would call itself", memory },
	{ "gates free memory later by means of it: it would call itself", deferring },
	{ "gates tell the time by means of it: it would call itself", clocks },
	{ "this kernel checks gates by means of it: it would call itself", checking },
};

static const struct group own_group = { "it is part of a gate", own };

static bool is_meant(const char *pattern, const char *name)
{
	size_t length = strcspn(pattern, "*");

	if (strncmp(name, pattern, length))
		return false;
	return pattern[length] || !name[length] || name[length] == '.';
}

static bool is_in(const struct group *group, const char *name)
{
	const char *const *pattern;

	name += strspn(name, "_");
	for (pattern = group->names; *pattern; pattern++)
		if (is_meant(*pattern, name))
			return true;
	return false;
}

static const char *reason_against(const char *name, bool in_module)
{
	int i;

	if (is_in(&own_group, name))
		return own_group.reason;
	for (i = 0; i < ARRAY_SIZE(groups) && !in_module; i++)
		if (is_in(&groups[i], name))
			return groups[i].reason;
	return NULL;
}

/**
 * deny_name() - may a function of this name be gated?
 * @name: the name
 * @home: the module that has it; NULL: the kernel itself
 * @request: gets the sentence when the answer is no
 *
 * Return: 0 or -EPERM.
 */
int deny_name(const char *name, const char *home, struct request *request)
{
	const char *reason = reason_against(name, home);

	if (!reason)
		return 0;
	request_reason(request, "%s is not gated: %s", name, reason);
	return -EPERM;
}

/* Of "function+0x4/0x120 [module]", the two names; "" for the kernel itself. @text gets both. */
static const char *split_symbol(char *text)
{
	char *module = strchr(text, '[');

	text[strcspn(text, "+")] = '\0';
	if (!module)
		return "";
	module++;
	module[strcspn(module, "]")] = '\0';
	return module;
}

/**
 * deny_text() - may what was found under a function's name be gated?
 * @function: what was looked for
 * @address: in the function that was found
 * @request: gets the sentence when the answer is no
 *
 * One function may have several names, and a name without a module may be found in one.
 *
 * Return: 0; -EPERM it must not be, -EINVAL it is a module's, which may go at any time.
 */
int deny_text(const struct dynamos_function *function, unsigned long address, struct request *request)
{
	const char *home = function->traits->home;
	char text[KSYM_SYMBOL_LEN];
	const char *module;

	sprint_symbol(text, address);
	module = split_symbol(text);
	if (!strcmp(module, KBUILD_MODNAME)) {
		request_reason(request, "%s is not gated: %s", function->name, own_group.reason);
		return -EPERM;
	}
	if (!home && *module) {
		request_reason(request, "%s: is of the module %s, which its subsystem does not say", function->name,
			       module);
		return -EINVAL;
	}
	return deny_name(text, home, request);
}
