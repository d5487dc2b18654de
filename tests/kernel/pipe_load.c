// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * pipe_load - loads for pipes: pipe_load KIND ROUNDS [SIZE [BURST]]
 *
 *	stream	ROUNDS writes of SIZE bytes; the reader asks for 64 KiB each time
 *	turns	ROUNDS times a message of SIZE bytes, and its answer
 *	bursts	ROUNDS times BURST messages of SIZE bytes, then an answer to all of them
 *
 * Every byte is checked. Prints one line of JSON: bytes, context switches and CPU time (ns) of both processes, and how
 * long it took (ns).
 */
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BUFFER 65536
/* Prime, so that a piece that is lost or doubled shifts what comes after it. */
#define PERIOD 251

static unsigned char out[BUFFER + PERIOD], in[BUFFER];

static uint64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

/* How long a process has had a CPU, to the nanosecond: what getrusage() says is counted in ticks. */
static uint64_t time_on_cpu(void)
{
	unsigned long long ns;
	FILE *file = fopen("/proc/self/schedstat", "r");

	if (!file || fscanf(file, "%llu", &ns) != 1)
		err(1, "/proc/self/schedstat");
	fclose(file);
	return ns;
}

static void put(int fd, uint64_t at, size_t size)
{
	const unsigned char *from = out + at % PERIOD;
	size_t done = 0;

	while (done < size) {
		ssize_t part = write(fd, from + done, size - done);

		if (part <= 0)
			err(1, "write");
		done += part;
	}
}

/* Read something, up to @most bytes, and check it. */
static size_t get(int fd, uint64_t at, size_t most)
{
	ssize_t part = read(fd, in, most);

	if (part <= 0)
		err(1, "read");
	if (memcmp(in, out + at % PERIOD, part))
		errx(1, "what came is not what was written, near byte %llu", (unsigned long long)at);
	return part;
}

static void get_all(int fd, uint64_t at, size_t size, size_t most)
{
	size_t done = 0;

	while (done < size)
		done += get(fd, at + done, most < size - done ? most : size - done);
}

struct load {
	long rounds;
	size_t size;
	long burst;		/* messages between answers; 0: there are none */
};

static void write_all(const struct load *load, int to, int answers)
{
	uint64_t at = 0;

	for (long round = 0; round < load->rounds; round++) {
		for (long i = 0; i < (load->burst ? load->burst : 1); i++, at += load->size)
			put(to, at, load->size);
		if (load->burst)
			get_all(answers, round, 1, 1);
	}
	close(to);
}

static void read_all(const struct load *load, int from, int answers)
{
	uint64_t at = 0;

	if (!load->burst) {
		while (at < load->rounds * load->size)
			at += get(from, at, BUFFER);
	}
	for (long round = 0; load->burst && round < load->rounds; round++) {
		/* As one does who does not know how much comes. */
		for (size_t done = 0; done < load->size * load->burst;) {
			size_t part = get(from, at, BUFFER);

			done += part;
			at += part;
		}
		put(answers, round, 1);
	}
}

int main(int argc, char **argv)
{
	struct load load = { .rounds = argc > 2 ? atol(argv[2]) : 0, .size = argc > 3 ? atol(argv[3]) : 64 };
	uint64_t begin, spent, child[1];
	struct rusage mine, theirs;
	int there[2], back[2], told[2], status;
	pid_t pid;

	if (argc < 3 || load.rounds < 1 || !load.size || load.size > BUFFER)
		errx(2, "usage: pipe_load stream|turns|bursts ROUNDS [SIZE [BURST]]");
	if (!strcmp(argv[1], "turns"))
		load.burst = 1;
	else if (!strcmp(argv[1], "bursts"))
		load.burst = argc > 4 ? atol(argv[4]) : 16;
	else if (strcmp(argv[1], "stream"))
		errx(2, "unknown load: %s", argv[1]);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = i % PERIOD;
	if (pipe(there) || pipe(back) || pipe(told))
		err(1, "pipe");

	begin = now(CLOCK_MONOTONIC);
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		close(there[0]);
		close(back[1]);
		close(told[0]);
		write_all(&load, there[1], back[0]);
		spent = time_on_cpu();
		return write(told[1], &spent, sizeof(spent)) != sizeof(spent);
	}
	close(there[1]);
	close(back[0]);
	close(told[1]);
	read_all(&load, there[0], back[1]);
	if (read(told[0], child, sizeof(child)) != sizeof(child) || waitpid(pid, &status, 0) != pid || status)
		errx(1, "the writer failed");
	spent = time_on_cpu() + child[0];
	begin = now(CLOCK_MONOTONIC) - begin;
	getrusage(RUSAGE_SELF, &mine);
	getrusage(RUSAGE_CHILDREN, &theirs);
	printf("{\"bytes\": %llu, \"switches\": %ld, \"cpu_ns\": %llu, \"elapsed_ns\": %llu}\n",
	       (unsigned long long)(load.rounds * load.size * (load.burst ? load.burst : 1)),
	       mine.ru_nvcsw + mine.ru_nivcsw + theirs.ru_nvcsw + theirs.ru_nivcsw, (unsigned long long)spent,
	       (unsigned long long)begin);
	return 0;
}
