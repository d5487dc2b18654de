// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * reclaim_load - two jobs that want the same memory: reclaim_load FRONT BACK FILE SPARSE ROUNDS MIB
 *
 * The foreground, in the cgroup FRONT, has FILE mapped, and works in turns: in each of ROUNDS it touches every page once,
 * in another order. Between its turns it sleeps until the background, in the cgroup BACK, has touched MIB of pages of
 * SPARSE, which it does at random and all the time. Pages of a sparse file cost no disk. With MIB 0 there is none.
 *
 * FRONT and BACK are the paths of cgroups. Prints one line of JSON: what the foreground has touched (bytes), how many of
 * its pages had to be read from the disk (faults), and how long its turns took (ns).
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES_PER_MIB 256

struct mapping {
	volatile const unsigned char *bytes;
	uint64_t pages;
};

static uint64_t state = 88172645463325252ULL;

static uint64_t chance(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

static uint64_t faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_majflt;
}

static void join(const char *cgroup)
{
	char path[PAGE];
	FILE *file;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	file = fopen(path, "w");
	if (!file || fprintf(file, "%d", getpid()) < 0 || fclose(file))
		err(1, "%s", path);
}

static struct mapping map(const char *path)
{
	struct mapping mapping;
	struct stat stat;
	int fd = open(path, O_RDONLY);
	void *bytes;

	if (fd < 0 || fstat(fd, &stat))
		err(1, "%s", path);
	/* A page belongs to the cgroup that reads it first: this one, and not who has written it. */
	if (fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		err(1, "%s", path);
	bytes = mmap(NULL, stat.st_size, PROT_READ, MAP_SHARED, fd, 0);
	/* Each page by itself: what was not asked for would blur how many were missing. */
	if (bytes == MAP_FAILED || madvise(bytes, stat.st_size, MADV_RANDOM))
		err(1, "%s", path);
	close(fd);
	mapping.bytes = bytes;
	mapping.pages = stat.st_size / PAGE;
	return mapping;
}

static void touch(struct mapping mapping, uint64_t page)
{
	(void)mapping.bytes[page * PAGE];
}

static pid_t start_background(const char *cgroup, const char *path, volatile uint64_t *touched)
{
	pid_t parent = getpid(), child = fork();
	struct mapping mapping;

	if (child < 0)
		err(1, "fork");
	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	join(cgroup);
	mapping = map(path);
	for (;; (*touched)++)
		touch(mapping, chance(mapping.pages));
}

static void touch_all(struct mapping mapping, uint64_t *order)
{
	for (uint64_t at = mapping.pages - 1; at; at--) {
		uint64_t other = chance(at + 1), page = order[at];

		order[at] = order[other];
		order[other] = page;
	}
	for (uint64_t at = 0; at < mapping.pages; at++)
		touch(mapping, order[at]);
}

static void wait_for(volatile uint64_t *touched, uint64_t pages, pid_t background)
{
	uint64_t end = *touched + pages;

	while (*touched < end) {
		if (waitpid(background, NULL, WNOHANG))
			errx(1, "the background has ended");
		usleep(10000);
	}
}

int main(int argc, char *argv[])
{
	uint64_t rounds, pressure, elapsed = 0, missing = 0, *order;
	volatile uint64_t *touched;
	struct mapping mapping;
	pid_t background = 0;

	if (argc != 7)
		errx(2, "usage: reclaim_load FRONT BACK FILE SPARSE ROUNDS MIB");
	rounds = strtoull(argv[5], NULL, 10);
	pressure = strtoull(argv[6], NULL, 10) * PAGES_PER_MIB;
	touched = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (touched == MAP_FAILED)
		err(1, "mmap");
	if (pressure)
		background = start_background(argv[2], argv[4], touched);
	join(argv[1]);
	mapping = map(argv[3]);
	order = calloc(mapping.pages, sizeof(*order));
	if (!order)
		err(1, "calloc");
	for (uint64_t page = 0; page < mapping.pages; page++) {
		order[page] = page;
		touch(mapping, page);
	}
	for (uint64_t round = 0; round < rounds; round++) {
		uint64_t before = faults(), begin;

		if (background)
			wait_for(touched, pressure, background);
		begin = now();
		touch_all(mapping, order);
		elapsed += now() - begin;
		missing += faults() - before;
	}
	if (background) {
		kill(background, SIGKILL);
		waitpid(background, NULL, 0);
	}
	printf("{\"bytes\": %llu, \"faults\": %llu, \"elapsed_ns\": %llu}\n",
	       (unsigned long long)(rounds * mapping.pages * PAGE), (unsigned long long)missing,
	       (unsigned long long)elapsed);
	return 0;
}
