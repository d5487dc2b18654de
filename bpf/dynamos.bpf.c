// SPDX-License-Identifier: GPL-2.0
/*
 * What the gates' tracepoints tell, added up in the kernel, per CPU.
 *
 * One translation unit for all probes, because a BCC compile is the dear part (a second on hardware, half a minute in
 * an emulated machine); one pair of programs serves every function and edition, because the tracepoints say which.
 * Which function gets which extra look is decided by user space, in the map `kinds`; nothing else comes from there.
 *
 * Parameters (-D): FUNCTIONS and EDITIONS, how many of each have a slot; REACH, see below.
 *
 * All in one file: BCC rewrites map accesses only in the file it is given, not in what that includes.
 */
#include <uapi/linux/ptrace.h>
#include <linux/pagemap.h>

struct figures {
	u64 calls;
	u64 returns;
	u64 sequential;
	u64 classified;
	u64 pages;
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

/*
 * Sequential or random? Told from the calls' own arguments, so that it works whichever edition is active.
 *
 * A call is sequential when it goes on where the last call of the same function on the same open file left off:
 * forward, by no more than REACH pages. The reach must cover the largest window that an edition reads at once,
 * because the next call of a sequential reader comes that far behind; a jump in a file of N pages looks sequential
 * by chance with probability REACH / N. A first call on a file, and one at the same place, say nothing.
 *
 * How far its reader has got is told too, in pages: a sequential call says that all since the last call was gone
 * through, whatever an edition reads at once; any other, and the first that is sequential, which may be one by chance,
 * stands for the one page that was asked for. So editions can be compared by what their readers get done.
 *
 * Known limit: threads that each read in sequence through one shared open file look random.
 */
#define KIND_NONE 0
#define KIND_READAHEAD 1

#define UNKNOWN 0
#define RANDOM 1
#define SEQUENTIAL 2

/* In a remembered place: the call there was sequential. No file has so many pages. */
#define CONTINUED (1ULL << 63)

struct place {
	u64 file;
	u64 function;
};

/* Where the last call was, in pages. The least recently used file is forgotten; an address used again costs one error. */
BPF_TABLE("lru_hash", struct place, u64, places, 8192);

/* For functions whose first argument is a struct readahead_control *. */
static __always_inline int classify_readahead(u32 function, const struct readahead_control *ractl, u64 *pages)
{
	struct place place = { .function = function };
	u64 index = 0;
	u64 *last;
	u64 step;

	if (bpf_probe_read_kernel(&place.file, sizeof(place.file), &ractl->file) || !place.file)
		return UNKNOWN;
	if (bpf_probe_read_kernel(&index, sizeof(index), &ractl->_index))
		return UNKNOWN;

	last = places.lookup(&place);
	if (!last) {
		places.update(&place, &index);
		return UNKNOWN;
	}
	step = index - (*last & ~CONTINUED);
	if (!step)
		return UNKNOWN;
	if (step > REACH) {
		*pages = 1;
		*last = index;
		return RANDOM;
	}
	*pages = *last & CONTINUED ? step : 1;
	*last = index | CONTINUED;
	return SEQUENTIAL;
}

/* edition_enter(u32 function, u32 edition, u64 arg0, ...) */
int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
	u32 function = ctx->args[0];
	struct figures *at = find(function, ctx->args[1]);
	u64 pages = 0;
	u32 *kind;
	int verdict;

	if (!at)
		return 0;
	at->calls++;

	kind = kinds.lookup(&function);
	if (!kind || *kind != KIND_READAHEAD)
		return 0;
	verdict = classify_readahead(function, (void *)ctx->args[2], &pages);
	if (verdict == UNKNOWN)
		return 0;
	at->classified++;
	at->pages += pages;
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
