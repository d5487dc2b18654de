// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * placement_load - tasks that wake each other
 *
 *	service CLIENTS ROUNDS THINK	CLIENTS ask one server by turns, ROUNDS times each; before each time a client sleeps
 *					for THINK microseconds
 *	pinned CLIENTS ROUNDS THINK	the same, with clients that stay on CPUs of their own, as far from each other as
 *					can be; only the server may move
 *	herd WORKERS ROUNDS		ROUNDS times one wakes WORKERS at once, and waits for the work of all of them
 *
 * All of a service and of a herd begin on different CPUs, as far as there are enough of them, and may go from there.
 * Every message and every sum is checked. Prints one line of JSON: bytes, how long it took (ns), and how often any of
 * them was moved to another CPU (migrations).
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 64
#define WORK (64 * 1024)
#define TIMES 8

struct message {
	uint64_t from, number;
	char rest[48];
};

struct shared {
	uint64_t migrations;
};

static struct shared *shared;
static unsigned char memory[WORK];

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

static uint64_t migrations(void)
{
	FILE *file = fopen("/proc/self/sched", "r");
	unsigned long long count;
	char line[256];

	if (!file)
		err(1, "/proc/self/sched");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "se.nr_migrations : %llu", &count) == 1) {
			fclose(file);
			return count;
		}
	}
	errx(1, "/proc/self/sched has no migrations");
}

static uint64_t cpus(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN);
}

static int stay_on(uint64_t cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu % cpus(), &one);
	return sched_setaffinity(0, sizeof(one), &one);
}

/* Be there, if it has not been unplugged, and may go to any other from there. */
static void begin_on(uint64_t cpu)
{
	cpu_set_t all;

	if (sched_getaffinity(0, sizeof(all), &all))
		err(1, "sched_getaffinity");
	if (CPU_COUNT(&all) == 1)
		return;
	if (stay_on(cpu) && errno != EINVAL)
		err(1, "sched_setaffinity");
	if (sched_setaffinity(0, sizeof(all), &all))
		err(1, "sched_setaffinity");
}

static void make_pipe(int ends[2])
{
	if (pipe(ends))
		err(1, "pipe");
}

/* Return: in the child 0. It dies with its parent. */
static pid_t start(void)
{
	pid_t parent = getpid(), child = fork();

	if (child < 0)
		err(1, "fork");
	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	return 0;
}

static void leave(uint64_t before)
{
	__atomic_fetch_add(&shared->migrations, migrations() - before, __ATOMIC_RELAXED);
	_exit(0);
}

static void end(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child || status)
		errx(1, "one of the others has failed");
}

static void put(int fd, uint64_t from, uint64_t number)
{
	struct message message = { .from = from, .number = number };

	if (write(fd, &message, sizeof(message)) != sizeof(message))
		err(1, "write");
}

static struct message get(int fd)
{
	struct message message;

	if (read(fd, &message, sizeof(message)) != sizeof(message))
		err(1, "read");
	return message;
}

static void expect(int fd, uint64_t from, uint64_t number)
{
	struct message message = get(fd);

	if (message.from != from || message.number != number)
		errx(1, "a message is not the one that was sent");
}

static void work(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < TIMES; i++)
		for (int at = 0; at < WORK; at++)
			sum += memory[at];
	if (sum != (uint64_t)TIMES * WORK * memory[0])
		errx(1, "the sum is wrong");
}

/* ------------------------------------------------------------------------------------------------------- service */

static void ask(int to, int answers, uint64_t me, uint64_t rounds, unsigned int think)
{
	for (uint64_t round = 0; round < rounds; round++) {
		if (think)
			usleep(think);
		put(to, me, round);
		expect(answers, me, round + 1);
	}
}

static uint64_t service(uint64_t clients, uint64_t rounds, unsigned int think, int stays)
{
	int requests[2], answers[MOST][2];
	pid_t children[MOST];

	make_pipe(requests);
	begin_on(0);
	for (uint64_t i = 0; i < clients; i++) {
		uint64_t before;

		make_pipe(answers[i]);
		children[i] = start();
		if (children[i])
			continue;
		if (!stays)
			begin_on(i + 1);
		else if (stay_on(i * cpus() / clients))
			err(1, "sched_setaffinity");
		before = migrations();
		ask(requests[1], answers[i][0], i, rounds, think);
		leave(before);
	}
	for (uint64_t i = 0; i < clients * rounds; i++) {
		struct message request = get(requests[0]);

		put(answers[request.from % MOST][1], request.from, request.number + 1);
	}
	for (uint64_t i = 0; i < clients; i++)
		end(children[i]);
	return clients * rounds * 2 * sizeof(struct message);
}

/* ---------------------------------------------------------------------------------------------------------- herd */

static void obey(int orders, int done, uint64_t me, uint64_t rounds)
{
	for (uint64_t round = 0; round < rounds; round++) {
		expect(orders, me, round);
		work();
		put(done, me, round);
	}
}

static uint64_t herd(uint64_t workers, uint64_t rounds)
{
	int done[2], orders[MOST][2];
	pid_t children[MOST];

	make_pipe(done);
	begin_on(0);
	for (uint64_t i = 0; i < workers; i++) {
		uint64_t before;

		make_pipe(orders[i]);
		children[i] = start();
		if (children[i])
			continue;
		begin_on(i + 1);
		before = migrations();
		obey(orders[i][0], done[1], i, rounds);
		leave(before);
	}
	for (uint64_t round = 0; round < rounds; round++) {
		for (uint64_t i = 0; i < workers; i++)
			put(orders[i][1], i, round);
		for (uint64_t i = 0; i < workers; i++)
			if (get(done[0]).number != round)
				errx(1, "somebody was not done");
	}
	for (uint64_t i = 0; i < workers; i++)
		end(children[i]);
	return workers * rounds * 2 * sizeof(struct message);
}

static uint64_t number(const char *text, uint64_t most)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);

	if (*end || value > most)
		errx(2, "%s: not a number up to %llu", text, (unsigned long long)most);
	return value;
}

int main(int argc, char *argv[])
{
	uint64_t begin, before, bytes;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		err(1, "mmap");
	memset(memory, 3, sizeof(memory));
	begin = now();
	before = migrations();
	if (argc == 5 && (!strcmp(argv[1], "service") || !strcmp(argv[1], "pinned")))
		bytes = service(number(argv[2], MOST), number(argv[3], UINT32_MAX), number(argv[4], UINT32_MAX),
				!strcmp(argv[1], "pinned"));
	else if (argc == 4 && !strcmp(argv[1], "herd"))
		bytes = herd(number(argv[2], MOST), number(argv[3], UINT32_MAX));
	else
		errx(2, "usage: placement_load service|pinned CLIENTS ROUNDS THINK | herd WORKERS ROUNDS");
	shared->migrations += migrations() - before;
	printf("{\"bytes\": %llu, \"migrations\": %llu, \"elapsed_ns\": %llu}\n", (unsigned long long)bytes,
	       (unsigned long long)shared->migrations, (unsigned long long)(now() - begin));
	return 0;
}
