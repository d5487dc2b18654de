# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: the only place where the stages meet.

One thread, one loop: sample -> signals -> decisions -> switches -> metrics and status. Deadlines
are absolute, and a tick that is missed is left out. A second thread serves metrics and the API from
what the loop left for it. Whatever goes wrong in a tick with the module, the probes, the journal or
the disk is told and counted, and the loop goes on; only a signal ends it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dynamosd import __version__, journald, phrases, privileges, service, status
from dynamosd.advice import AdviceBook, advice_json
from dynamosd.api.documents import View
from dynamosd.api.handler import Shown
from dynamosd.api.server import ApiServer
from dynamosd.bootguard import BootGuard, read_boot_id
from dynamosd.budget import Budget, Step
from dynamosd.clock import Clock, SystemClock, Ticker
from dynamosd.control import Controller
from dynamosd.desk import Desk
from dynamosd.drains import EventReader, drains
from dynamosd.errors import DynamosError, Exhausted, Unreachable
from dynamosd.hostsignals import SIGNALS as HOST_SIGNALS
from dynamosd.journal import Journal, rfc3339
from dynamosd.journald import Journald
from dynamosd.kmod import DEVICE, LOAD_HINT, ROOT_HINT, Kmod
from dynamosd.lease import LeaseKeeper
from dynamosd.metrics import (
    Page,
    Snapshot,
    Tally,
    Values,
    advice_values,
    budget_values,
    canary_values,
    guardrail_values,
    kernel_values,
    latency_histograms,
    lease_values,
    objective_values,
    pause_values,
    pin_values,
    policy_values,
    probe_values,
    quarantine_values,
    reload_values,
    sample_values,
    signal_values,
    source_values,
)
from dynamosd.orders import Orders, pause_json
from dynamosd.policy.expression import Input
from dynamosd.policy.load import check_files
from dynamosd.policy.names import names_of
from dynamosd.policy.problems import PolicyErrors, has_errors
from dynamosd.probes.edition import Agreement, Sampler
from dynamosd.probes.procfs import PROC, read_host
from dynamosd.quarantines import Quarantines, quarantine_json
from dynamosd.recording import Recorder
from dynamosd.requests import Inbox
from dynamosd.service import Service
from dynamosd.signals import QUANTILES, SIGNAL_KEYS, SignalWindow
from dynamosd.sources.poll import Fetch, Sources
from dynamosd.sources.prometheus import fetch
from dynamosd.switcher import Switcher
from dynamosd.timeline import TimelineKeeper
from dynamosd.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from dynamosd.config import Config
    from dynamosd.model import KernelState, ProbeCost, Sample, Signals
    from dynamosd.policy.definition import Policy
    from dynamosd.policy.names import SubsystemNames
    from dynamosd.probes import Probe

PROBE = "gate"
MAX_PERIOD_SECONDS = 1.0
REATTACH_SECONDS = 60.0
ATTACH_SECONDS = 120.0
"""In a busy emulated machine BCC's import and compile take half a minute; the loop waits."""


def _attach() -> Probe:
    """Attach the eBPF probes. BCC is imported here: nothing else needs it, and it takes long."""
    from dynamosd.probes.bpf import GateProbe  # noqa: PLC0415 - see above

    with privileges.in_effect():
        return GateProbe()


@dataclass(frozen=True, slots=True)
class World:
    """What the daemon works on; tests give it another one.

    ``attach`` attaches the probes, which may take long. ``say`` shows a line to the operator.
    ``proc`` is where the host's figures are, and ``ask`` asks the policies' sources. ``service`` is
    told how the daemon is, and ``journald`` what it records.
    """

    say: Callable[[str], None]
    kmod: Kmod = field(default_factory=Kmod)
    attach: Callable[[], Probe] = _attach
    clock: Clock = field(default_factory=SystemClock)
    proc: Path = PROC
    ask: Fetch = fetch
    journald: Journald = field(default_factory=lambda: journald.from_environment(os.environ))
    service: Service = field(default_factory=lambda: service.from_environment(os.environ))


# --------------------------------------------------------------------------------- policies


def read_policies(
    settings: Config, known: Mapping[str, SubsystemNames] | None, say: Callable[[str], None]
) -> tuple[Policy, ...]:
    """Read all policies, or none.

    Raises:
        PolicyErrors: with all that is wrong with any of them.
    """
    checked = check_files(settings.policies, known=known, labels=settings.labels)
    if has_errors(checked.problems):
        raise PolicyErrors(checked.problems)
    for problem in checked.problems:
        say(str(problem))
    return checked.policies


def timed_functions(policies: Iterable[Policy]) -> frozenset[str]:
    """Give the functions of which a policy reads how long their calls take."""
    return frozenset(
        function
        for policy in policies
        for signal, function, _ in policy.signals
        if signal in QUANTILES
    )


def longest_hold(policies: Iterable[Policy]) -> float:
    """Give how long their switches may hold the loop, in seconds: all of them, at once."""
    return sum(policy.switch_timeout_seconds or 0.0 for policy in policies)


# --------------------------------------------------------------------------------- the loop


class Daemon:
    """Everything between start and stop. `run` makes one, with what it needs already there."""

    def __init__(
        self,
        settings: Config,
        world: World,
        policies: tuple[Policy, ...],
        kernel: KernelState,
        watch: Watch | None = None,
    ) -> None:
        """Put the stages together; nothing is touched yet."""
        self._settings = settings
        self._world = world
        self._say = world.say
        self._clock = world.clock
        self._service = world.service
        self._started = world.clock.wall()
        self._stop = self._reload = False
        self.page = Page()
        self.view = View(settings.journal)
        self.inbox = Inbox()
        self.ready = False
        self._tally = Tally()
        self._timeline = TimelineKeeper(world.clock.now())
        self._journal = Journal(settings.journal, world.clock.wall, world.say, also=self._tell)
        switcher = Switcher(world.kmod, world.clock.now)
        self._leases = LeaseKeeper(world.kmod, self._journal, self._tally, world.say)
        self._recorder = Recorder(
            settings.recordings,
            world.say,
            {"program": __version__, "pid": os.getpid(), "window_seconds": settings.window_seconds},
            settings.recording_bytes,
            settings.recording_keep,
        )
        self._orders = Orders(settings.orders, world.say)
        self._advice = AdviceBook(self._orders, self._journal, world.say)
        self._quarantines = Quarantines(settings.quarantines, self._journal, world.say)
        self._controller = Controller(
            switcher,
            self._leases,
            self._journal,
            self._tally,
            world.clock,
            world.say,
            self._orders,
            self._advice,
            self._quarantines,
        )
        self._desk = Desk(
            self.inbox,
            self._controller,
            self._orders,
            self._advice,
            self._journal,
            world.clock,
            world.say,
        )
        self._watch = watch
        self._controller.recorder = self._recorder
        self._controller.labels = settings.labels
        self._guard = BootGuard(
            settings.last_switches,
            read_boot_id(world.proc),
            settings.boot_guard_seconds,
            settings.boot_guard_quarantine_seconds,
            self._quarantines,
            world.say,
        )
        self._controller.guard = self._guard
        self._sources = Sources(world.clock, world.ask)
        self._window = SignalWindow(settings.window_seconds)
        self._sampler = Sampler(world.kmod, None, world.clock.now)
        self._budget = Budget(settings.probe_budget, os.cpu_count() or 1)
        self._expenses: tuple[ProbeCost, int] | None = None
        self._mismatches = 0
        self._reattach_at = 0.0
        self._kernel: KernelState | None = kernel
        self._ticker = Ticker(MAX_PERIOD_SECONDS, world.clock.now())
        self._reload_ok, self._reloaded = True, self._started
        self._reloads, self._reload_error = 0, ""
        self._status_errors = 0
        self._lag = self._busy = self._ticked = 0.0
        self._ticks = self._reload_failures = 0
        self._events = EventReader()
        self._exhausted = False
        self._orders.load()
        self._quarantines.load(world.clock.wall())
        self._guard.begin(world.clock.now(), world.clock.wall())
        self._put_in_force(policies, kernel)

    # --------------------------------------------------------------------- from outside

    def request_stop(self) -> None:
        """Leave after this tick."""
        self._stop = True
        self._clock.wake()

    def request_reload(self) -> None:
        """Read the policies again before the next tick."""
        self._reload = True
        self._clock.wake()

    def run(self) -> int:
        """Work until `request_stop`; give the exit code."""
        self._record_start()
        self._want_sources()
        try:
            self._loop()
        finally:
            clean = self._leave()
        return 0 if clean else 1

    def attach(self) -> None:
        """Attach the probes.

        Raises:
            NotSupported: this machine cannot; the message holds the compiler's text.
        """
        self._say("compiling eBPF probes…")
        begin = self._clock.now()
        self._leases.expect_pause(ATTACH_SECONDS, begin)
        self._service.expect_pause(ATTACH_SECONDS)
        probe = self._world.attach()
        self._say(f"probes attached after {self._clock.now() - begin:.1f} s")
        self._mismatches += self._sampler.agreement.total
        self._sampler = Sampler(
            self._world.kmod, probe, self._clock.now, Agreement(), self._sampler.timed
        )
        # While this took long, the loop stood still: that is no lag of it.
        now = self._clock.now()
        self._ticker = dataclasses.replace(self._ticker, period=self._period(), deadline=now)

    # -------------------------------------------------------------------------- the loop

    def _loop(self) -> None:
        while not self._stop:
            # Names can be checked only against a module that is there.
            if self._reload and self._kernel is not None:
                self._reload = False
                self._service.reloading(self._clock.now())
                self._read_again(self._kernel)
                self._service.reloaded()
            now = self._clock.now()
            if self._ticker.is_due(now):
                self._lag = self._ticker.arrive(now)
                self._tick(now)
                if not self._exhausted:
                    self._service.tick_ended(self._clock.now(), self._in_a_line())
            self._clock.wait_until(self._ticker.deadline)

    def _tick(self, begin: float) -> None:
        sample = self._sample()
        signals = None
        self._desk.end_what_is_over()
        self._quarantines.end_what_is_over(self._clock.wall())
        self._quarantines.save_again(self._clock.now())
        self._guard.tick(self._clock.now())
        self._desk.serve()
        if sample is not None:
            signals = self._window.add(sample)
            self._controller.tick(sample.kernel, signals)
        self._desk.serve_late(signals)
        if self._watch is not None and self._watch.has_changed():
            self.request_reload()
        self._note_tick(begin)
        self._publish(sample, signals)
        self._desk.deliver()
        self.ready = sample is not None

    def _note_tick(self, begin: float) -> None:
        """Count a tick, but for what it takes to show it."""
        self._busy += self._clock.now() - begin
        self._ticks += 1
        self._ticked = self._clock.wall()

    def _period(self) -> float:
        """Give the time between ticks: no policy waits, and two samples fit in a window."""
        intervals = [policy.interval_seconds for policy in self._controller.policies]
        return min(MAX_PERIOD_SECONDS, self._settings.window_seconds / 2, *intervals)

    def _sample(self) -> Sample | None:
        """Take a sample; None while the module is gone, or we have no means to look."""
        self._expenses = None
        try:
            sample = self._sampler.sample()
        except Exhausted as error:
            # What we cannot see may be well: nothing is given up. If this lasts, the leases run
            # out, and the service manager hears nothing either.
            if not self._exhausted:
                self._say(f"{error.message}; nothing is evaluated meanwhile")
            self._exhausted = True
            return None
        except Unreachable as error:
            self._module_gone(error)
            return None
        if self._exhausted:
            self._say("the kernel module and the probes can be read again")
        self._exhausted = False
        if self._kernel is None:
            self._say(f"the module is back, version {sample.kernel.version}")
            self._journal.record("module_back", version=sample.kernel.version)
        self._kernel = sample.kernel
        self._read_events()
        self._look_after_probe()
        self._keep_budget()
        host = read_host(self._clock.now(), self._world.proc)
        results = self._sources.signals(sample.time)
        return dataclasses.replace(sample, host=host, sources=results)

    def _read_events(self) -> None:
        """See what has drained. It is only to be shown: no reason to stop if it cannot be read."""
        with contextlib.suppress(Unreachable):
            for each in drains(self._events.take(self._world.kmod.read_held())):
                self._tally.add_drain(each)

    def _want_sources(self) -> None:
        """Ask what the policies in force want to know, and nothing else."""
        policies = self._controller.policies
        self._sources.want({each.name: each for one in policies for each in one.sources}.values())

    def _module_gone(self, error: DynamosError) -> None:
        if self._kernel is not None:
            self._say(f"{error.message}; waiting for it")
            self._journal.record("module_gone", reason=error.message)
            self._journal.forget("module_gone")
            # What it measured went with the module's tracepoints.
            self._sampler.detach("the module is gone")
            self._leases.forget_module()
            self._events.forget_module()
        self._kernel = None

    def _look_after_probe(self) -> None:
        """Attach the probes again once they are lost; now and then, for it takes long."""
        if self._sampler.probe is not None or self._budget.step is Step.DETACHED:
            return
        if lost := self._sampler.take_loss():
            self._say(f"probes lost: {lost}; going on with the module's own counters")
            self._journal.record("probe_lost", reason=lost)
        now = self._clock.now()
        if now >= self._reattach_at:
            self._reattach_at = now + REATTACH_SECONDS
            with contextlib.suppress(DynamosError):
                self.attach()
                self._journal.record("probe_attached")

    def _keep_budget(self) -> None:
        """Leave off what the probes may not cost, and try after a while whether they may again."""
        self._expenses = self._sampler.expenses()
        cost = self._expenses[0] if self._expenses else None
        before, is_timed = self._budget.step, bool(self._sampler.timed)
        if not self._budget.look(self._clock.now(), cost, is_timed=is_timed):
            return
        step = self._budget.step
        self._time_calls()
        if step is Step.DETACHED:
            self._sampler.detach("")
            self._expenses = None
        elif before is Step.DETACHED:
            self._reattach_at = 0.0
        share, limit = self._budget.exceeded, self._budget.limit
        self._journal.record("budget", step=str(step), share=share, limit=limit)
        self._say(phrases.budget(str(step), share, limit))

    def _time_calls(self) -> None:
        """Have the calls timed that policies ask for, if the budget has room for that."""
        is_full = self._budget.step is Step.FULL
        timed = timed_functions(self._controller.policies) if is_full else frozenset()
        self._sampler.timed = timed

    # ------------------------------------------------------------------------ telling it

    def _tell(self, record: Mapping[str, object]) -> None:
        """Tell others what the journal records."""
        self._world.journald.take(record)
        self._timeline.note(record, self._clock.now())

    def _publish(self, sample: Sample | None, signals: Signals | None) -> None:
        self.page.show(
            Snapshot(
                self._values(sample, signals),
                self._tally.histograms()
                | (latency_histograms(sample) if sample is not None else {}),
            )
        )
        found = self._status(signals)
        # As text: another thread reads it while the loop goes on.
        kernel = sample.kernel if sample is not None else None
        now, wall = self._clock.now(), self._clock.wall()
        timeline = self._timeline.tick(now, wall, kernel, signals, self._controller.policies)
        self.view = View(self._settings.journal, json.dumps(found), kernel, timeline)
        try:
            status.write(self._settings.runtime_dir, found)
        except OSError as error:
            if not self._status_errors:
                self._say(f"cannot write the status: {error.strerror}; going on without it")
            self._status_errors += 1

    def _values(self, sample: Sample | None, signals: Signals | None) -> Values:
        single = {
            "dynamos_module_up": float(sample is not None),
            "dynamos_loop_lag_seconds": self._lag,
            "dynamos_loop_missed_ticks_total": self._ticker.missed,
            "dynamos_loop_ticks_total": self._ticks,
            "dynamos_loop_busy_seconds_total": self._busy,
            "dynamos_last_tick_timestamp_seconds": self._ticked,
            "dynamos_start_timestamp_seconds": self._started,
            "dynamos_events_lost_total": self._events.lost,
            "dynamos_journal_errors_total": self._journal.errors,
            "dynamos_journald_dropped_total": self._world.journald.dropped,
            "dynamos_recording_errors_total": self._recorder.errors,
            "dynamos_status_errors_total": self._status_errors,
            "dynamos_orders_errors_total": self._orders.errors,
            "dynamos_quarantines_errors_total": self._quarantines.errors,
            "dynamos_boot_guard_errors_total": self._guard.errors,
            "dynamos_config_last_reload_successful": float(self._reload_ok),
            "dynamos_config_last_reload_success_timestamp_seconds": self._reloaded,
        }
        controller = self._controller
        values: Values = {name: {(): value} for name, value in single.items()}
        values |= {"dynamos_build_info": {(__version__,): 1.0}}
        values |= reload_values(self._reloads, self._reload_failures)
        values |= policy_values(controller.policies, controller.decisions)
        values |= objective_values(controller.decisions)
        values |= canary_values(controller.policies, controller.decisions)
        values |= guardrail_values(controller.decisions)
        values |= quarantine_values(self._quarantines.lasting(self._clock.wall()))
        values |= lease_values(self._leases.held)
        values |= pause_values(controller.policies, self._orders.pause_of)
        values |= pin_values(self._orders.pins.values())
        values |= advice_values(self._advice.open(controller.policies))
        values |= self._tally.values() | self._probe_values()
        values |= source_values(self._sources.found)
        if sample is not None:
            values |= kernel_values(sample.kernel) | sample_values(sample)
        if signals is not None:
            values |= signal_values(signals)
        return values

    def _probe_values(self) -> Values:
        budget = budget_values(PROBE, self._budget)
        if self._expenses is None:
            return budget | {"dynamos_probe_attached": {(PROBE,): 0.0}}
        mismatches = self._mismatches + self._sampler.agreement.total
        return probe_values(PROBE, *self._expenses, mismatches) | budget

    def _status(self, signals: Signals | None) -> dict[str, object]:
        found = signals.values if signals else {}
        return {
            "apiVersion": status.API_VERSION,
            "kind": "DaemonStatus",
            "pid": os.getpid(),
            "version": __version__,
            "started": rfc3339(self._started),
            "updated": rfc3339(self._clock.wall()),
            "module": self._kernel.version if self._kernel else None,
            "probes_attached": self._sampler.probe is not None,
            "probe_budget": {
                "step": str(self._budget.step),
                "share": self._budget.share,
                "limit": self._budget.limit,
            },
            "last_reload_successful": self._reload_ok,
            "reloads": self._reloads,
            "reload_error": self._reload_error,
            "journal": str(self._settings.journal.absolute()),
            "recordings": str(self._settings.recordings),
            "labels": dict(self._settings.labels),
            "policies": self._controller.status(),
            "pauses": [pause_json(each) for each in self._orders.pauses.values()],
            "pins": self._controller.pins.status(),
            "quarantines": [
                quarantine_json(*each) for each in self._quarantines.lasting(self._clock.wall())
            ],
            "advice": [advice_json(each) for each in self._advice.all()],
            "last_switches": self._controller.last_switches,
            "signals": [
                {**dict(zip(SIGNAL_KEYS, key, strict=True)), **dataclasses.asdict(each)}
                for key, each in found.items()
                if key[0] not in HOST_SIGNALS
            ],
            "host_signals": [
                {"signal": Input(*key).text, **dataclasses.asdict(each)}
                for key, each in found.items()
                if key[0] in HOST_SIGNALS
            ],
        }

    def _in_a_line(self) -> str:
        """Say how things are, for ``systemctl status``."""
        if self._kernel is None:
            return "waiting for the kernel module"
        policies, subsystems = self._controller.policies, self._kernel.subsystems
        found = sorted(subsystems.keys() & {each.subsystem for each in policies})
        paused = sum(bool(self._orders.pause_of(each)) for each in policies)
        pinned = len(self._orders.pins)
        held = sum(1 for _ in self._quarantines.lasting(self._clock.wall()))
        parts = [
            f"policies: {len(policies)}",
            *(f"{name}={subsystems[name].active}" for name in found),
            *([f"paused: {paused}"] if paused else []),
            *([f"pinned: {pinned}"] if pinned else []),
            *([f"in quarantine: {held}"] if held else []),
            *([] if self._sampler.probe else ["no probes"]),
            *([] if self._reload_ok else ["the last reload failed"]),
        ]
        return ", ".join(parts)

    def _record_start(self) -> None:
        policies = {each.name: str(each.mode) for each in self._controller.policies}
        listed = ", ".join(f"{name} ({mode})" for name, mode in policies.items())
        self._say(f"running with policies: {listed or 'none, only measuring'}")
        self._journal.record("start", version=__version__, pid=os.getpid(), policies=policies)

    # ----------------------------------------------------------------- changes and the end

    def _read_again(self, kernel: KernelState) -> None:
        """Put what the files say now in force, all of it or nothing."""
        self._reloads += 1
        if self._watch is not None:
            # Before: what is written meanwhile is a change again.
            self._watch.note_reading()
        try:
            policies = read_policies(self._settings, names_of(kernel), self._say)
        except DynamosError as error:
            self._reload_ok, self._reload_error = False, error.message
            self._reload_failures += 1
            for line in error.message.splitlines():
                self._say(line)
            self._say("the policies are not good: the last good ones stay in force")
            self._journal.record("reload_failed", reason=error.message)
            self._journal.forget("reload_failed")
            return
        self._reload_ok, self._reloaded = True, self._clock.wall()
        self._reload_error = ""
        self._put_in_force(policies, kernel)
        self._want_sources()
        names = [policy.name for policy in policies]
        self._ticker = dataclasses.replace(self._ticker, period=self._period())
        self._say(f"policies read again: {', '.join(names) or 'none'}")
        self._journal.record("reload", policies=names)
        self._journal.forget("reload")

    def _put_in_force(self, policies: tuple[Policy, ...], kernel: KernelState) -> None:
        self._controller.put_in_force(policies, kernel)
        self._tally.keep(policies)
        self._time_calls()
        self._service.allow(longest_hold(policies))

    def _look_once_more(self) -> KernelState | None:
        """Give what the module shows, or showed when we had the means to look; None: it is gone."""
        try:
            return self._world.kmod.read()
        except Exhausted:
            return self._kernel
        except Unreachable:
            return None

    def _leave(self) -> bool:
        """Leave everything as the policies want it left; True if that went well."""
        self.ready = False
        self._service.stopping(longest_hold(self._controller.policies))
        kernel = self._look_once_more()
        clean = kernel is None or self._controller.leave(kernel)
        self._desk.close()
        self._leases.close()
        self._sources.close()
        self._sampler.detach("")
        self._recorder.close()
        self._journal.close()
        self._guard.close(self._clock.now())
        self._journal.record("stop", clean=clean)
        status.remove(self._settings.runtime_dir)
        self._say("left" if clean else "left, but not everything went back to its baseline")
        return clean


# ------------------------------------------------------------------------- start and signals


def run(settings: Config, world: World) -> int:
    """Run the daemon until SIGTERM or SIGINT; give the exit code.

    Raises:
        PolicyErrors: a policy is wrong, or names what the module does not have.
        Unreachable: the module is not loaded.
        Refused: another daemon is running.
        NotSupported: the probes cannot be attached on this machine.
        DynamosError: the metrics' address cannot be had.
    """
    kernel = world.kmod.read()
    watch = Watch(lambda: settings.policies) if settings.watch else None
    policies = read_policies(settings, names_of(kernel), world.say)
    with contextlib.ExitStack() as stack:
        stack.enter_context(status.only_daemon(settings.runtime_dir))
        daemon = Daemon(settings, world, policies, kernel, watch)
        shown = Shown(daemon.page.text, lambda: daemon.ready, lambda: daemon.view)
        server = ApiServer(settings.metrics_address, settings.runtime_dir, shown, daemon.inbox)
        stack.callback(server.close)
        world.say(f"metrics on port {server.port}")
        stack.enter_context(_on_signals(daemon.request_reload, signal.SIGHUP))
        # Until all is attached there is nothing to leave clean: these may end the process, which
        # a compiler at work would keep waiting until it is done otherwise.
        daemon.attach()
        stack.enter_context(_on_signals(daemon.request_stop, signal.SIGTERM, signal.SIGINT))
        return daemon.run()


@contextlib.contextmanager
def _on_signals(action: Callable[[], None], *numbers: signal.Signals) -> Iterator[None]:
    """Let signals do ``action`` while the context lasts."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        action()

    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def check_start(settings: Config) -> None:
    """Check what can be checked without the kernel, in the order in which one would mend it.

    Raises:
        PolicyErrors: a policy is wrong.
        Unreachable: there is no module, or we are neither root nor allowed to use its device.
    """
    read_policies(settings, None, lambda _line: None)
    if not DEVICE.exists():
        raise Unreachable("the kernel module is not loaded", hint=LOAD_HINT)
    if os.geteuid() != 0 and not os.access(DEVICE, os.R_OK | os.W_OK):
        raise Unreachable("dynamosd needs root", hint=ROOT_HINT)
