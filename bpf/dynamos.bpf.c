// SPDX-License-Identifier: GPL-2.0
/*
 * What the gates' tracepoints tell, added up in the kernel, per CPU.
 *
 * One translation unit for all probes, because a BCC compile is the dear part; one pair of programs serves every
 * function and edition, because the tracepoints say which.
 * Which function gets which extra look is decided by user space, in the map `kinds`; nothing else comes from there.
 *
 * Parameters (-D): FUNCTIONS and EDITIONS, how many of each have a slot; RACTL_FILE and RACTL_INDEX, where the members
 * `file` and `_index` of this kernel's struct readahead_control are, in bytes; REACH, PART_BITS, UNIT_BITS, BUCKETS:
 * below.
 *
 * No #include: those of BCC itself give all types and helpers, and <linux/pagemap.h>, only to know where two members
 * are, would make the compile several times as long.
 *
 * All in one file: BCC rewrites map accesses only in the file it is given, not in what that includes.
 */

struct figures {
	u64 calls;
	u64 returns;
	u64 sequential;
	u64 classified;
	u64 pages;
	u64 errors;
	u64 untimed;		/* returns whose call's begin was missed, and calls whose return was */
};

BPF_PERCPU_ARRAY(figures, struct figures, FUNCTIONS * EDITIONS);

/* Bits below; from KIND_EPOCH on, a number that grows whenever timing begins. */
#define KIND_READAHEAD 1
#define KIND_LATENCY 2
#define KIND_EPOCH 8
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
static __always_inline int classify_readahead(u32 function, const void *ractl, u64 *pages)
{
	struct place place = { .function = function };
	u64 index = 0;
	u64 *last;
	u64 step;

	if (bpf_probe_read_kernel(&place.file, sizeof(place.file), ractl + RACTL_FILE) || !place.file)
		return UNKNOWN;
	if (bpf_probe_read_kernel(&index, sizeof(index), ractl + RACTL_INDEX))
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

/*
 * How long does a call take? Each thread has a stack of the calls that it is in: a call ends before the one that it was
 * made in, and a call made in an interrupt before the thread that was interrupted goes on. So the call that returns is
 * on top, unless an event was missed: the kernel does not run a program on top of itself, as when an interrupt comes
 * into on_enter() and enters an edition there.
 *
 * Therefore a call is told by where the tracepoint's arguments are, too. They are on the kernel's stack; those of a
 * call's begin and of its end are as near as SPREAD, as the same frame has called both, while an interrupt's are on
 * another stack. What is above the call that returns has ended unseen, and counts as untimed; so does a return whose
 * call is not there, or was too deep to be kept. What may still be timed wrongly is a call of the same function that is
 * nested within SPREAD of one that was missed, and one in an interrupt whose begin was missed, if the end of another in
 * the same thread and function was missed before.
 */
#define DEPTH 16
#define SPREAD 512
#define STACK 16384		/* of a thread or of interrupts, at least */

struct begin {
	u64 time;
	u64 place;		/* of the tracepoint's arguments */
	u32 slot;
	u32 epoch;
};

struct thread {
	u32 depth;
	u32 beyond;		/* calls that are too deep to be kept */
	u64 entering, leaving;	/* `place` of on_enter() and on_exit(): what comes out of a map is a number to the verifier */
	struct begin begins[DEPTH];
};

/* A thread that calls nothing for long is forgotten when there is no room: calls that it is in are untimed then. */
BPF_TABLE("lru_hash", u64, struct thread, threads, 4096);

/* Never written. Too large for a program's stack. */
BPF_ARRAY(no_thread, struct thread, 1);

/*
 * Log-linear: 1 << PART_BITS buckets for each power of two, the first ones 1 << UNIT_BITS ns wide. User space makes
 * those that it wants to read: nobody else pays for the memory.
 * BUCKETS is a power of two.
 */

struct latency {
	u64 counts[BUCKETS];
	u64 nanoseconds;
};

BPF_F_TABLE("percpu_hash", u32, struct latency, latencies, FUNCTIONS * EDITIONS, BPF_F_NO_PREALLOC);

static __always_inline u32 bucket_of(u64 nanoseconds)
{
	u64 units = nanoseconds >> UNIT_BITS;
	u32 octave, bucket;

	if (units < 1 << PART_BITS)
		return units;
	/* bpf_log2l() counts from 1. */
	octave = bpf_log2l(units) - PART_BITS;
	bucket = (octave << PART_BITS) + ((units >> (octave - 1)) & ((1 << PART_BITS) - 1));
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* One for each thread; but the idle ones, which interrupts come into, are all number 0. */
static __always_inline u64 this_thread(void)
{
	u32 thread = bpf_get_current_pid_tgid();

	return thread ? thread : (1ULL << 32) + bpf_get_smp_processor_id();
}

/* Keeps from the compiler what it knows of a number: it would leave out what the verifier must see to know it too. */
#define HIDE(number) asm volatile("" : "+r"(number))

static __always_inline struct begin *begin_at(struct thread *thread, u64 depth)
{
	HIDE(depth);
	return &thread->begins[depth & (DEPTH - 1)];
}

static __always_inline struct thread *find_or_make(u64 key)
{
	struct thread *thread = threads.lookup(&key);
	u32 zero = 0;

	if (thread)
		return thread;
	thread = no_thread.lookup(&zero);
	if (!thread)
		return NULL;
	threads.update(&key, thread);
	return threads.lookup(&key);
}

static __always_inline void begin(struct figures *at, void *arguments, u32 slot, u32 epoch)
{
	struct thread *thread = find_or_make(this_thread());
	struct begin *begin;
	u64 place;

	/* Without memory: the return will be untimed. */
	if (!thread)
		return;
	*(volatile u64 *)&thread->entering = (u64)arguments;
	place = *(volatile u64 *)&thread->entering;

	/* Stacks grow down: what is not above this call on its stack is over. */
	if (thread->depth && place - begin_at(thread, thread->depth - 1)->place < STACK) {
		thread->depth--;
		thread->beyond = 0;
		__sync_fetch_and_add(&at->untimed, 1);
	}
	if (thread->depth >= DEPTH) {
		thread->beyond++;
		return;
	}
	begin = begin_at(thread, thread->depth);
	begin->place = place;
	begin->slot = slot;
	begin->epoch = epoch;
	thread->depth++;
	begin->time = bpf_ktime_get_ns();
}

static __always_inline void end(struct figures *at, void *arguments, u32 slot, u32 epoch)
{
	u64 now = bpf_ktime_get_ns();
	u64 key = this_thread();
	struct thread *thread = threads.lookup(&key);
	struct latency *latency;
	struct begin *begin;
	u64 place, depth, took, bucket;
	int i;

	if (!thread)
		goto untimed;
	*(volatile u64 *)&thread->leaving = (u64)arguments;
	place = *(volatile u64 *)&thread->leaving;
	if (thread->beyond) {
		thread->beyond--;
		goto untimed;
	}
	depth = thread->depth;
	HIDE(depth);
	for (i = 0; i < DEPTH; i++) {
		if (!depth)
			goto untimed;
		depth--;
		begin = begin_at(thread, depth);
		if (begin->slot == slot && place - begin->place + SPREAD <= 2 * SPREAD)
			goto found;
	}
	goto untimed;
found:
	thread->depth = depth;
	if (i)
		__sync_fetch_and_add(&at->untimed, i);
	if (begin->epoch != epoch)
		goto untimed;
	latency = latencies.lookup(&slot);
	if (!latency)
		goto untimed;
	took = now - begin->time;
	bucket = bucket_of(took);
	HIDE(bucket);
	latency->counts[bucket & (BUCKETS - 1)]++;
	latency->nanoseconds += took;
	return;
untimed:
	__sync_fetch_and_add(&at->untimed, 1);
}

/*
 * Is it an error? Numbers from -4095 to -1 are, and pointers of those values. Of a type of 32 bits and no sign only the
 * lower half says so, with zeroes above.
 */
static __always_inline bool is_error(u64 ret)
{
	return ret >= -4095ULL || (ret <= 0xffffffff && ret >= (u32)-4095);
}

static __always_inline void classify(struct figures *at, u32 function, void *argument)
{
	u64 pages = 0;
	int verdict = classify_readahead(function, argument, &pages);

	if (verdict == UNKNOWN)
		return;
	at->classified++;
	at->pages += pages;
	if (verdict == SEQUENTIAL)
		at->sequential++;
}

/* edition_enter(u32 function, u32 edition, u64 arg0, ...) */
int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
	u32 function = ctx->args[0];
	struct figures *at = find(function, ctx->args[1]);
	u32 *found;
	u32 kind;

	if (!at)
		return 0;
	at->calls++;

	found = kinds.lookup(&function);
	kind = found ? *found : 0;
	if (kind & KIND_READAHEAD)
		classify(at, function, (void *)ctx->args[2]);
	/* Last, so that what is above is not part of the time. */
	if (kind & KIND_LATENCY)
		begin(at, ctx, function * EDITIONS + (u32)ctx->args[1], kind >> KIND_EPOCH);
	return 0;
}

/* edition_exit(u32 function, u32 edition, u64 ret) */
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u32 function = ctx->args[0];
	u32 edition = ctx->args[1];
	struct figures *at = find(function, edition);
	u32 *kind;

	if (!at)
		return 0;
	at->returns++;
	if (is_error(ctx->args[2]))
		at->errors++;

	kind = kinds.lookup(&function);
	if (kind && *kind & KIND_LATENCY)
		end(at, ctx, function * EDITIONS + edition, *kind >> KIND_EPOCH);
	return 0;
}
