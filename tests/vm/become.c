// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A function for GNU make: $(become NAMES,PROGRAM,ARGUMENT,...) puts the make variables NAMES, unexpanded, into the
 * environment and turns make itself into PROGRAM.
 *
 * Make ends with status 2 when a recipe fails, whatever the recipe's own status was. `make vm` promises the status of
 * the command that ran in the guest, which it can only keep by no longer being make when that ends.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gnumake.h>

#define ARGUMENTS_MAX 16

int plugin_is_GPL_compatible;

/* A variable that is not set, or empty, is left out: the program then has its own default. */
static void pass(const char *name)
{
	char reference[256];
	char *value;

	snprintf(reference, sizeof(reference), "$(value %s)", name);
	value = gmk_expand(reference);
	if (value && *value)
		setenv(name, value, 1);
	gmk_free(value);
}

static char *become(const char *function, unsigned int count, char **arguments)
{
	char *program[ARGUMENTS_MAX + 1] = { NULL };
	unsigned int i;
	char *name;

	(void)function;
	for (name = strtok(arguments[0], " "); name; name = strtok(NULL, " "))
		pass(name);
	for (i = 1; i < count; i++)
		program[i - 1] = arguments[i];
	fflush(NULL);
	execv(program[0], program);
	fprintf(stderr, "make: cannot become %s: %s\n", program[0], strerror(errno));
	exit(127);
}

int become_gmk_setup(const gmk_floc *location)
{
	(void)location;
	gmk_add_function("become", become, 2, ARGUMENTS_MAX, GMK_FUNC_DEFAULT);
	return 1;
}
