// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * spinning_load - threads that want one mutex: spinning_load THREADS RECORDS [SIZE [WORK]]
 *
 * THREADS read RECORDS records of SIZE bytes from one open file, each from where the one before has got to. The kernel
 * holds a mutex for the length of each read, so that no two get the same: that of the file's position. Between its reads
 * a thread does WORK steps of its own.
 *
 * The records are numbered: each must come whole, and once. Prints one line of JSON: bytes, context switches and CPU
 * time (ns) of all threads, and how long it took (ns).
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define FOLDER "/dev/shm"
#define THREADS_MOST 256
#define SIZE_MOST (1 << 20)

struct load {
	long threads, records, size, work;
	int file;
	atomic_uchar *seen;		/* one for each record */
	pthread_barrier_t begin;
};

static uint64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		err(1, "calloc");
	return memory;
}

/*
 * A file in memory, where reading is copying, and opened: one of memfd_create() has a position without a mutex. What
 * lies between the numbers is left out.
 */
static int make_file(const struct load *load)
{
	int file = open(FOLDER, O_TMPFILE | O_RDWR, 0600);

	if (file < 0 || ftruncate(file, load->records * load->size))
		err(1, "a file in " FOLDER);
	for (uint64_t number = 1; number <= (uint64_t)load->records; number++) {
		if (pwrite(file, &number, sizeof(number), (number - 1) * load->size) != sizeof(number))
			err(1, "pwrite");
	}
	return file;
}

static void check(struct load *load, const uint64_t *record)
{
	if (!*record || *record > (uint64_t)load->records)
		errx(1, "what came does not begin where a record does");
	if (atomic_exchange(&load->seen[*record - 1], 1))
		errx(1, "record %llu came twice", (unsigned long long)*record);
}

static void do_work(long steps)
{
	for (volatile long i = 0; i < steps; i++)
		;
}

static void *read_all(void *argument)
{
	struct load *load = argument;
	uint64_t *record = allocate(1, load->size);
	ssize_t part;

	pthread_barrier_wait(&load->begin);
	while ((part = read(load->file, record, load->size)) == load->size) {
		check(load, record);
		do_work(load->work);
	}
	if (part)
		err(1, "read");
	free(record);
	return NULL;
}

static void run(struct load *load)
{
	pthread_t threads[THREADS_MOST];

	for (long i = 0; i < load->threads; i++) {
		if (pthread_create(&threads[i], NULL, read_all, load))
			errx(1, "pthread_create");
	}
	pthread_barrier_wait(&load->begin);
	for (long i = 0; i < load->threads; i++)
		pthread_join(threads[i], NULL);
	for (long i = 0; i < load->records; i++) {
		if (!load->seen[i])
			errx(1, "record %ld did not come", i + 1);
	}
}

static long number(int argc, char **argv, int at, long otherwise)
{
	return argc > at ? atol(argv[at]) : otherwise;
}

int main(int argc, char **argv)
{
	struct load load = {
		.threads = number(argc, argv, 1, 0),
		.records = number(argc, argv, 2, 0),
		.size = number(argc, argv, 3, 4096),
		.work = number(argc, argv, 4, 0),
	};
	uint64_t elapsed, cpu;
	struct rusage usage;

	if (load.threads < 1 || load.threads > THREADS_MOST || load.records < 1 ||
	    load.size < (long)sizeof(uint64_t) || load.size > SIZE_MOST || load.work < 0)
		errx(2, "usage: spinning_load THREADS RECORDS [SIZE [WORK]]");
	load.file = make_file(&load);
	load.seen = allocate(load.records, sizeof(*load.seen));
	pthread_barrier_init(&load.begin, NULL, load.threads + 1);

	cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	elapsed = now(CLOCK_MONOTONIC);
	run(&load);
	elapsed = now(CLOCK_MONOTONIC) - elapsed;
	cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"bytes\": %lld, \"switches\": %ld, \"cpu_ns\": %llu, \"elapsed_ns\": %llu}\n",
	       (long long)load.records * load.size, usage.ru_nvcsw + usage.ru_nivcsw, (unsigned long long)cpu,
	       (unsigned long long)elapsed);
	return 0;
}
