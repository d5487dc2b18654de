# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every step that a person or CI takes is a target here; `make help` lists them.
# Nothing has to be installed first but git, make and python3 on Debian bookworm.

KERNELS ?= 6.1 6.12
KERNEL ?= 6.1
FUZZ ?= 1000000
TORTURE ?= 3000
CYCLES ?= 500
INSPECT ?= 500
DEBUG ?= debug

PY := .venv/bin/python
PYTEST := $(PY) -m pytest -p tests.vm.noskip

# The guest's command reaches the shell as it was typed: make expands no `$` in it.
export VM_CMD := $(value CMD)
unexport CMD
VM_VARIABLES := KERNEL MUTATION VM_CMD MEM CPUS TIMEOUT DISK DISK_BPS DISK_IOPS APPEND TCG QEMU_OPTS MODULES SYSTEMD
export $(VM_VARIABLES)

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 19

.PHONY: setup
setup: ## Install what is missing: Debian packages, then .venv
	@tests/vm/bootstrap.sh

.PHONY: kernels
kernels: setup ## Fetch the stock kernels into .cache (once; then no network is used)
	@$(PY) -m tests.vm.kernels $(KERNELS)

.PHONY: kernels-refresh
kernels-refresh: setup ## Fetch the newest packages of the kernels
	@$(PY) -m tests.vm.kernels --refresh $(KERNELS)

.PHONY: modules
modules: setup ## Build kmod/ for KERNEL and make it modprobe-able in its guest
	@$(PY) -m tests.vm.modules $(if $(MUTATION),--mutation $(MUTATION)) $(KERNEL)

# Make's own status after a failed recipe is always 2; `make vm` promises CMD's. So, for this goal
# alone, make does not run the recipe but turns into the program (tests/vm/become.c), unless it was
# asked to do nothing (-n).
.PHONY: vm
vm: setup ## Run CMD as root in a VM of KERNEL (MEM CPUS DISK TIMEOUT …: tests/vm/README.md)
	@$(PY) -m tests.vm
ifeq ($(MAKECMDGOALS)$(findstring n,$(firstword -$(MAKEFLAGS))),vm)
BECOME := .cache/become.so
ifneq ($(shell { tests/vm/bootstrap.sh && \
	cc -shared -fPIC -O2 -Wall -Werror -o $(BECOME) tests/vm/become.c; } >&2; echo $$?),0)
$(error the machine could not be set up, see above)
endif
load $(BECOME)
$(become $(VM_VARIABLES),$(PY),-m,tests.vm)
endif

.PHONY: demo
demo: setup ## Watch KERNEL switch itself, and what that gains (HOST=1: this machine; POLICY=readahead-objective: it learns)
	@KERNEL=$(KERNEL) HOST=$(HOST) POLICY=$(POLICY) $(PY) -m tests.demo

.PHONY: bench
bench: setup ## Count what a gated call costs, in instructions, on each of KERNELS
	@$(PY) -m bench $(KERNELS)

.PHONY: bench-editions
bench-editions: setup ## Measure what editions gain, and where they harm, on KERNELS (SUBSYSTEM: of one)
	@$(PY) -m bench.editions $(if $(SUBSYSTEM),--subsystem $(SUBSYSTEM)) $(KERNELS)

.PHONY: bench-policy
bench-policy: setup ## Count the rules that the policy engine evaluates in a second of CPU time
	@$(PY) -m bench.policy

.PHONY: bench-metrics
bench-metrics: setup ## Count the CPU time of a scrape of 1,000 functions with metrics
	@$(PY) -m bench.metrics

.PHONY: test
test: test-unit test-guests bench ## Run the tests: here, in a VM of each of KERNELS and one more; then bench

.PHONY: test-unit
test-unit: setup ## Run the tests that need no kernel module
	@$(PYTEST) tests/unit tests/policies tests/vm

.PHONY: fuzz-modules
fuzz-modules: setup ## Check FUZZ_MODULES (10000) kernel modules, each broken in its own way
	@DYNAMOS_FUZZ_MODULES=$(or $(FUZZ_MODULES),10000) $(SEEDED) $(PYTEST) -s tests/unit/workshop/test_checks_built.py -k wrong

# Targets that run tests in a VM of each of KERNELS. The VMs run at the same time; each one's output
# comes in one piece when it has ended. What one of them is enough for, one runs (tests/kernel/shares.py).
IN_GUESTS := test-kernel fail-steps stress programs torture soak fuzz inspect
.PHONY: $(IN_GUESTS)
test-kernel: ## Run tests/kernel in a VM of each of KERNELS
fail-steps: ## Make every step of the module that may fail fail, one after the other, on KERNELS
stress: ## Switch at random SWITCHES (2000) times under load, on KERNELS; takes long
programs: ## Switch all subsystems at random SWITCHES (2000) times under real programs, on KERNELS; takes long
torture: ## Do TORTURE (3000) things of every kind to the module, at random and at once, on KERNELS
soak: ## Switch SWITCHES (10000) times, load and unload CYCLES (500), and find leaks, on KERNELS
fuzz: ## Write FUZZ (1000000) lines into the device, most of them no commands, on KERNELS
inspect: ## Inspect INSPECT (500) functions drawn at random, and gate each that can be, on KERNELS
$(IN_GUESTS): setup
	@DYNAMOS_TOGETHER='$(KERNELS)' $(MAKE) --no-print-directory --output-sync=target -j2 $(KERNELS:%=$@-%)

# The service's tests wait most of the time, for a watchdog and for restarts: they cost little beside the others.
.PHONY: test-guests
test-guests: setup ## Run test-kernel and test-service at the same time
	@DYNAMOS_TOGETHER='$(KERNELS)' $(MAKE) --no-print-directory --output-sync=target -j3 \
		$(KERNELS:%=test-kernel-%) test-service

# $(call in_guest,TARGET,WHAT,VARIABLES,TESTS): TARGET on one kernel.
define in_guest
.PHONY: $(KERNELS:%=$(1)-%)
$(KERNELS:%=$(1)-%): $(1)-%:
	@echo "== $(2) on $$*"
	@KERNEL=$$* MEM=1G DISK=600M TIMEOUT=14400 VM_CMD= $(3) $$(PY) -m tests.vm \
		'python -m pytest -p tests.vm.noskip $(4)'

endef

TORTURE_PY := -s tests/kernel/test_torture.py
SEEDED = DYNAMOS_SEED=$(or $(SEED),1)

$(eval $(call in_guest,test-kernel,tests/kernel,,--durations=25 tests/kernel))
# What one kernel is enough for in `make test-kernel`, each runs here.
$(eval $(call in_guest,fail-steps,steps that fail,DYNAMOS_TOGETHER=$$*,tests/kernel/test_failing.py))
$(eval $(call in_guest,stress,$(or $(SWITCHES),2000) random switches,DYNAMOS_STRESS=$(or $(SWITCHES),2000),\
	tests/kernel/test_stress.py))
$(eval $(call in_guest,programs,$(or $(SWITCHES),2000) random switches under programs,\
	DYNAMOS_TOGETHER=$$* DYNAMOS_PROGRAMS=$(or $(SWITCHES),2000),tests/kernel/test_programs.py))
$(eval $(call in_guest,torture,$(TORTURE) steps of torture,$(SEEDED) DYNAMOS_TORTURE=$(TORTURE),\
	$(TORTURE_PY) -k everything))
$(eval $(call in_guest,soak,$(or $(SWITCHES),10000) switches and $(CYCLES) cycles of loading and unloading,\
	$(SEEDED) DYNAMOS_SWITCHES=$(or $(SWITCHES),10000) DYNAMOS_CYCLES=$(CYCLES) APPEND="$$$$APPEND slab_nomerge",\
	$(TORTURE_PY) -k soak))
$(eval $(call in_guest,fuzz,$(FUZZ) lines into the device,DYNAMOS_FUZZ=$(FUZZ),-s tests/kernel/test_fuzz.py))

$(eval $(call in_guest,inspect,$(INSPECT) functions inspected,$(SEEDED) DYNAMOS_INSPECT=$(INSPECT),\
	-s tests/kernel/test_inspect.py -k random))

.PHONY: test-service
test-service: setup ## Run tests/system, the service under systemd, in a VM of the last of KERNELS
	@echo "== tests/system on $(lastword $(KERNELS))"
	@KERNEL=$(lastword $(KERNELS)) SYSTEMD=1 MEM=1G TIMEOUT=3600 VM_CMD= $(PY) -m tests.vm \
		'python -m pytest -x --durations=10 -p tests.vm.noskip tests/system'

.PHONY: test-debug-kernel
test-debug-kernel: setup ## Run DEBUG_TESTS (all) on a kernel that checks itself: DEBUG=debug or kcsan
	@VM_CMD= $(PY) -m tests.vm.debug_kernel --kernel $(DEBUG) -- $(DEBUG_TESTS)

.PHONY: test-mutations
test-mutations: setup ## See that the tests catch deliberate wrongs (MUTATION: which; all)
	@VM_CMD= $(PY) -m tests.vm.mutations $(MUTATION)

.PHONY: lint
lint: lint-python lint-shell lint-c ## Check Python, shell and C

.PHONY: lint-python
lint-python: setup ## ruff, mypy, import-linter
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@PYTHONPATH=. .venv/bin/lint-imports --no-logo

.PHONY: lint-shell
lint-shell: setup ## shellcheck
	@git ls-files -z '*.sh' .ci/run tests/vm/run tests/vm/systemd/virtme-init | xargs -0 -r shellcheck
	@echo "shellcheck: clean"

.PHONY: lint-c
lint-c: setup ## kbuild with W=1 and sparse on each of KERNELS, checkpatch
	@$(PY) -m tests.vm.lint_c $(KERNELS)

PREFIX ?= /usr/local
INSTALLED := $(DESTDIR)$(PREFIX)
PYTHON_FOLDER := $(PREFIX)/lib/dynamosd/python
# Debian's zsh does not look into /usr/share/zsh/site-functions.
ZSH_FOLDER := $(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
COMPLETIONS := bash-completion/completions/dynamosctl zsh/$(ZSH_FOLDER)/_dynamosctl \
	fish/vendor_completions.d/dynamosctl.fish
PIP := $(PY) -m pip --quiet --disable-pip-version-check

.PHONY: install
install: setup ## Install the programs, policies and the service into DESTDIR and PREFIX (/usr/local)
	@$(PIP) install --upgrade --no-compile --root-user-action ignore --constraint requirements.lock \
		--target $(DESTDIR)$(PYTHON_FOLDER) .
	@rm -rf build $(DESTDIR)$(PYTHON_FOLDER)/bin
	@install -D -m 644 -t $(DESTDIR)$(PYTHON_FOLDER)/bpf bpf/*
	@install -d $(INSTALLED)/bin
	@for program in dynamosd dynamosctl; do \
		sed 's|@PYTHON_FOLDER@|$(PYTHON_FOLDER)|' packaging/$$program >$(INSTALLED)/bin/$$program; \
		chmod 755 $(INSTALLED)/bin/$$program; \
	done
	@$(PY) -m dynamosd.man $(INSTALLED)/share/man
	@for file in $(COMPLETIONS); do \
		mkdir -p $(INSTALLED)/share/$${file%/*}; \
		$(PY) -m dynamosd.cli completion $${file%%[-/]*} >$(INSTALLED)/share/$$file || exit; \
	done
	@install -d $(DESTDIR)/usr/lib/systemd/system
	@sed 's|@PREFIX@|$(PREFIX)|' packaging/dynamosd.service >$(DESTDIR)/usr/lib/systemd/system/dynamosd.service
	@install -D -m 644 packaging/sysusers.conf $(DESTDIR)/usr/lib/sysusers.d/dynamosd.conf
	@install -D -m 644 packaging/60-dynamos.rules $(DESTDIR)/usr/lib/udev/rules.d/60-dynamos.rules
	@install -D -m 644 -t $(DESTDIR)/usr/lib/dynamosd/policies.d policies/readahead.yaml
	@install -D -m 644 -t $(INSTALLED)/share/dynamosd/monitoring monitoring/*.yaml monitoring/dashboard.json
	@install -D -m 644 -t $(INSTALLED)/share/doc/dynamosd docs/*.md packaging/modules-load.conf README.md
	@install -D -m 644 -t $(INSTALLED)/share/doc/dynamosd/editions docs/editions/*.md

.PHONY: uninstall
uninstall: ## Take away what `make install` has put there; settings, journal and kernel modules stay
	@rm -f $(INSTALLED)/bin/dynamosd $(INSTALLED)/bin/dynamosctl $(COMPLETIONS:%=$(INSTALLED)/share/%)
	@rm -f $(INSTALLED)/share/man/man[18]/dynamosctl[-.]* $(INSTALLED)/share/man/man[18]/dynamosd[-.]*
	@rm -f $(DESTDIR)/usr/lib/systemd/system/dynamosd.service $(DESTDIR)/usr/lib/sysusers.d/dynamosd.conf
	@rm -f $(DESTDIR)/usr/lib/udev/rules.d/60-dynamos.rules
	@rm -rf $(INSTALLED)/lib/dynamosd $(INSTALLED)/share/dynamosd $(INSTALLED)/share/doc/dynamosd
	@rm -rf $(DESTDIR)/usr/lib/dynamosd

.PHONY: screenshots
screenshots: setup ## Draw the README's pictures of the programs anew, into docs/screenshots
	@$(PY) -m tests.screenshots docs/screenshots
	@$(PY) -m tests.page

.PHONY: lock
lock: ## Resolve requirements.in afresh into requirements.lock
	@tests/vm/lock.sh

.PHONY: clean
clean: ## Remove built modules and tools' caches; kernels and .venv stay
	@rm -rf .cache/build .cache/vm .cache/vm-out .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@rm -rf .cache/kernels/*/lib/modules/*/updates .cache/kernels/*/lib/modules/*/dynamos.stamp
	@find . -path ./.venv -prune -o -path ./.cache -prune -o -name __pycache__ -print0 | xargs -0 -r rm -rf

.PHONY: distclean
distclean: clean ## Remove everything that is not in git's hands
	@rm -rf .cache .venv demo-out
