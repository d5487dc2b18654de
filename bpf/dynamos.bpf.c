// SPDX-License-Identifier: GPL-2.0
/*
 * What the gates' tracepoints tell, added up in the kernel, per CPU.
 *
 * One translation unit for all probes, because a BCC compile is the dear part (a second on hardware, half a minute in
 * an emulated machine); one pair of programs serves every function and edition, because the tracepoints say which.
 * Which function gets which extra look is decided by user space, in the map `kinds`; nothing else comes from there.
 *
 * Parameters (-D): FUNCTIONS and EDITIONS, how many of each have a slot; REACH, see access_pattern.h.
 */
#include <uapi/linux/ptrace.h>
#include <linux/pagemap.h>

#include "access_pattern.h"

struct figures {
	u64 calls;
	u64 returns;
	u64 sequential;
	u64 classified;
};

BPF_PERCPU_ARRAY(figures, struct figures, FUNCTIONS * EDITIONS);
BPF_ARRAY(kinds, u32, FUNCTIONS);

/* Calls of functions or editions without a slot: never silently lost. */
BPF_PERCPU_ARRAY(dropped, u64, 1);

static __always_inline struct figures *find(u32 function, u32 edition)
{
	u32 slot = function * EDITIONS + edition;
	u32 zero = 0;
	u64 *lost;

	if (function < FUNCTIONS && edition < EDITIONS)
		return figures.lookup(&slot);
	lost = dropped.lookup(&zero);
	if (lost)
		*lost += 1;
	return NULL;
}

/* edition_enter(u32 function, u32 edition, u64 arg0, ...) */
int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
	u32 function = ctx->args[0];
	struct figures *at = find(function, ctx->args[1]);
	u32 *kind;
	int verdict;

	if (!at)
		return 0;
	at->calls++;

	kind = kinds.lookup(&function);
	if (!kind || *kind != KIND_READAHEAD)
		return 0;
	verdict = classify_readahead(function, (void *)ctx->args[2]);
	if (verdict == UNKNOWN)
		return 0;
	at->classified++;
	if (verdict == SEQUENTIAL)
		at->sequential++;
	return 0;
}

/* edition_exit(u32 function, u32 edition, u64 ret) */
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct figures *at = find(ctx->args[0], ctx->args[1]);

	if (at)
		at->returns++;
	return 0;
}
