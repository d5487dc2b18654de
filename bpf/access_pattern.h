/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sequential or random? Told from the calls' own arguments, so that it works whichever edition is active.
 *
 * A call is sequential when it goes on where the last call of the same function on the same open file left off:
 * forward, by no more than REACH pages. The reach must cover the largest window that an edition reads at once,
 * because the next call of a sequential reader comes that far behind; a jump in a file of N pages looks sequential
 * by chance with probability REACH / N. A first call on a file, and one at the same place, say nothing.
 *
 * Known limit: threads that each read in sequence through one shared open file look random.
 */
#define KIND_NONE 0
#define KIND_READAHEAD 1

#define UNKNOWN 0
#define RANDOM 1
#define SEQUENTIAL 2

struct place {
	u64 file;
	u64 function;
};

/* Where the last call was, in pages. The least recently used file is forgotten; an address used again costs one error. */
BPF_TABLE("lru_hash", struct place, u64, places, 8192);

/* For functions whose first argument is a struct readahead_control *. */
static __always_inline int classify_readahead(u32 function, const struct readahead_control *ractl)
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
	step = index - *last;
	if (!step)
		return UNKNOWN;
	*last = index;
	return step <= REACH ? SEQUENTIAL : RANDOM;
}
