# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.verify and its command: one thing that differs at a time, and what is said of it."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamosd import status, verify
from dynamosd.cli import main
from dynamosd.cli import verify as command
from dynamosd.doctor import Machine
from dynamosd.model import LeaseTerms
from dynamosd.testing import FakeModule, ManualClock
from dynamosd.verify import Finding, Verdict
from tests.unit.build import write_policy
from tests.unit.test_daemon import House

WIDTH = 80
ORDER = "page_cache_ra_order"
UNBOUNDED = "page_cache_ra_unbounded"
SUBSYSTEM = "readahead"


def entry(function: str) -> str:
    """Give what ftrace says of a gate."""
    return f"{function} (1) R   D \ttramp: x\n\tdirect-->dynamos_gate_{function}+0x0/0x20 [m]\n"


class Scene:
    """A kernel and a daemon that agree; tests change one thing."""

    def __init__(self, module: FakeModule, folder: Path) -> None:
        """Let a policy enforce ``original``."""
        self.module = module
        self.sysfs = module.sysfs / SUBSYSTEM
        self.root = folder / "root"
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        # The real module puts gates on all functions at once.
        (self.sysfs / "functions" / UNBOUNDED / "backend").write_text("direct\n")
        self.uid = 0
        self.now = time.time()
        self.put("sys/module/dynamos_readahead/initstate", "live\n")
        self.put("sys/kernel/tracing/enabled_functions", entry(ORDER) + entry(UNBOUNDED))
        self.put("proc/loadavg", "0.1 0.1 0.1 1/100 999\n")
        self.put(f"proc/{os.getpid()}/stat", f"{os.getpid()} (a) S) S 1 1\n")
        self.put(f"proc/{os.getpid()}/comm", "dynamosd\n")
        self.file = module.open()
        self.lease()
        self.policy: dict[str, Any] = {
            "name": "storm",
            "subsystem": SUBSYSTEM,
            "mode": "enforce",
            "current": "original",
            "target": "original",
            "reason": "no rule is active",
            "suppressed": None,
            "paused": None,
            "trouble": "",
            "switch": {"mode": None, "timeout_seconds": None},
            "definition": {
                "baseline": "original",
                "interval_seconds": 1.0,
                "rules": [{"edition": "random"}],
            },
        }
        at = dt.datetime.fromtimestamp(self.now, dt.UTC)
        self.daemon: dict[str, Any] | None = {
            "pid": os.getpid(),
            "module": "0.1.0",
            "updated": at.isoformat().replace("+00:00", "Z"),
            "last_reload_successful": True,
            "probes_attached": True,
            "policies": [self.policy],
        }

    def put(self, path: str, text: str) -> None:
        """Write a file of the kernel's."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def lease(self, by: int | None = None) -> None:
        """Let somebody hold the lease."""
        self.file.close()
        self.file = self.module.open(by=by)
        terms = LeaseTerms("baseline", "original", 30.0, 10.0)
        self.module.kmod.lease(self.file, SUBSYSTEM, terms)

    def run(self) -> None:
        """Let the daemon show itself."""
        if self.daemon is not None:
            status.write(self.run_dir, self.daemon)

    def findings(self) -> list[Finding]:
        """Compare."""
        self.run()
        machine = Machine(self.module.kmod, self.root, uid=self.uid)
        return verify.compare(verify.look(machine, self.run_dir, self.now))

    def one(self, verdict: Verdict = Verdict.DIFFERS) -> Finding:
        """Compare; give the only thing that does not agree."""
        (found,) = [each for each in self.findings() if each.verdict is not Verdict.OK]
        assert found.verdict is verdict
        assert found.remedy
        return found


@pytest.fixture
def scene(module: FakeModule, tmp_path: Path) -> Scene:
    """Give one."""
    return Scene(module, tmp_path)


def test_all_agrees(scene: Scene) -> None:
    findings = scene.findings()
    assert {each.verdict for each in findings} == {Verdict.OK}
    assert verify.exit_code(findings) == 0
    seen = {each.name: each.seen for each in findings}
    assert seen["edition"] == "original is active, as policy storm wants"
    assert seen["gates"] == f"{ORDER} (direct), {UNBOUNDED} (direct)"
    assert seen["lease"] == f"held by the daemon, pid {os.getpid()} (dynamosd)"
    assert seen["editions"] == "loaded, with their modules: original, random"


# --------------------------------------------------------------------------------- the edition


def wants(**changed: Any) -> Callable[[Scene], None]:  # noqa: ANN401 - JSON
    """Let the policy want ``random``, and something be in its way."""

    def change(scene: Scene) -> None:
        scene.policy |= {"target": "random", **changed}

    return change


@pytest.mark.parametrize(("scope", "agrees"), [("cpus:0", True), ("cpus:1", False)])
def test_a_step_of_a_canary_is_what_is_wanted(scene: Scene, scope: str, *, agrees: bool) -> None:
    rolling = {"edition": "random", "event": "holds", "scope": scope, "step": 1, "steps": 2}
    scene.policy |= {"target": "random", "rolling": rolling}
    scene.module.kmod.switch(SUBSYSTEM, "random", "scoped", scope="cpus:0")
    [found] = [each for each in scene.findings() if each.name == "edition"]
    assert (found.verdict is Verdict.OK) == agrees
    assert ("step 1 of 2 of policy storm's canary" in found.seen) == agrees


def scoped(scene: Scene) -> None:
    """Let somebody try an edition on a part of the calls."""
    scene.module.kmod.switch(SUBSYSTEM, "random", "scoped", scope="cpus:0")


@pytest.mark.parametrize(
    ("change", "seen", "remedy"),
    [
        (wants(), "original is active; policy storm wants random: somebody has", "every 1s"),
        (wants(paused="storm paused by uid 0"), "wants random: storm paused by uid 0", "resume"),
        (
            wants(suppressed="cooldown", reason="busy; no switch to random: cooldown, 1s of 5s"),
            "wants random: cooldown; busy; no switch to random: cooldown, 1s of 5s",
            "dynamosctl explain storm",
        ),
        (wants(trouble="the module said no"), "wants random: the module said no", "history"),
        (
            scoped,
            "random gets a part of the calls (scoped, cpus:0); policy storm wants original: a",
            "dynamosctl switch readahead original",
        ),
        (
            lambda scene: scene.module.kmod.switch(SUBSYSTEM, "random"),
            "random is active; policy storm wants original: somebody has switched",
            "dynamosctl history --subsystem readahead",
        ),
    ],
)
def test_edition_that_is_not_the_wanted_one(
    scene: Scene, change: Callable[[Scene], None], seen: str, remedy: str
) -> None:
    change(scene)
    found = scene.one()
    assert (found.subsystem, found.name) == (SUBSYSTEM, "edition")
    assert seen in found.seen
    assert remedy in found.remedy


def test_edition_that_objects_are_getting_is_the_wanted_one(scene: Scene) -> None:
    scene.policy["target"] = "random"
    scene.module.call(SUBSYSTEM, ORDER, blocked=1)
    scene.module.kmod.switch(SUBSYSTEM, "random", "per-object")
    assert {each.verdict for each in scene.findings()} == {Verdict.OK}


def test_edition_that_nobody_enforces(scene: Scene) -> None:
    scene.policy["mode"] = "advise"
    scene.module.kmod.switch(SUBSYSTEM, "random")
    seen = [each.seen for each in scene.findings() if each.verdict is Verdict.OK]
    assert "random is active; no policy enforces it" in seen


def pin(scene: Scene, edition: str, trouble: str | None = None) -> None:
    """Let a person hold it at an edition, and the policy want the other one."""
    pinned = {"subsystem": SUBSYSTEM, "edition": edition, "uid": 0, "login": None}
    pinned |= {"until": "2026-01-01T00:00:00Z", "reason": "why not", "trouble": trouble}
    assert scene.daemon is not None
    scene.daemon["pins"] = [pinned]
    scene.policy |= {"target": "random" if edition == "original" else "original"}


def test_pinned_edition_is_what_is_wanted(scene: Scene) -> None:
    pin(scene, "random")
    scene.module.kmod.switch(SUBSYSTEM, "random")
    findings = scene.findings()
    assert {each.verdict for each in findings} == {Verdict.OK}
    [found] = [each for each in findings if each.name == "edition"]
    who = "pinned by uid 0 until 2026-01-01T00:00:00Z: why not"
    assert found.seen == f"random is active, {who}"


@pytest.mark.parametrize("trouble", [None, "edition random is not loaded"])
def test_pinned_edition_that_is_not_there(scene: Scene, trouble: str | None) -> None:
    pin(scene, "random", trouble)
    found = scene.one()
    assert f"why not: {trouble or 'the daemon has not seen it yet'}" in found.seen
    assert "dynamosctl unpin readahead" in found.remedy


def test_part_of_the_calls_is_not_what_is_pinned(scene: Scene) -> None:
    pin(scene, "original")
    scoped(scene)
    assert "original is pinned by uid 0" in scene.one().seen


def test_pinned_subsystem_that_is_not_loaded(scene: Scene) -> None:
    pin(scene, "random")
    assert scene.daemon is not None
    scene.daemon["pins"][0]["subsystem"] = "pipe"
    scene.policy["target"] = "original"
    assert scene.one().seen == "is not loaded; a pin is about it"


def test_policy_that_has_not_been_evaluated(scene: Scene) -> None:
    del scene.policy["target"]
    assert "it has not been evaluated yet" in scene.one(Verdict.UNKNOWN).seen


def test_pause_is_told_when_it_is_in_nobodys_way(scene: Scene) -> None:
    scene.policy["paused"] = "all policies paused by uid 0"
    seen = [each.seen for each in scene.findings()]
    assert "original is active, as policy storm wants; all policies paused by uid 0" in seen


# --------------------------------------------------------------------- editions and quarantine


def test_edition_that_a_policy_names_is_not_loaded(scene: Scene) -> None:
    scene.policy["definition"]["rules"].append({"edition": "batched"})
    found = scene.one()
    assert found.seen == "batched is not loaded; policy storm may want it"
    assert found.remedy.endswith("dynamosctl edition load readahead/batched")
    scene.policy["target"] = "batched"
    names = [each.name for each in scene.findings() if each.verdict is Verdict.DIFFERS]
    assert names == ["edition", "editions"]


def test_module_of_an_edition_that_is_gone(scene: Scene) -> None:
    (scene.sysfs / "editions" / "random" / "module").write_text("dynamos_readahead_random\n")
    assert "random is of module dynamos_readahead_random, which is not loaded" in scene.one().seen
    scene.put("sys/module/dynamos_readahead_random/initstate", "going\n")
    assert "which is not loaded" in scene.one().seen
    scene.put("sys/module/dynamos_readahead_random/initstate", "live\n")
    assert {each.verdict for each in scene.findings()} == {Verdict.OK}


def test_quarantine(scene: Scene) -> None:
    scene.module.trip(SUBSYSTEM, "random")
    found = scene.one()
    assert found.seen == "edition random is in quarantine (oops); policy storm may not use it"
    assert "dynamosctl edition clear readahead random" in found.remedy
    scene.policy["target"] = "random"
    assert "wants random: edition random is in quarantine (oops)" in scene.findings()[4].seen
    scene.policy |= {"target": "original", "definition": {"baseline": "original"}}
    assert "no policy names it" in " ".join(each.seen for each in scene.findings())
    assert {each.verdict for each in scene.findings()} == {Verdict.OK}
    (scene.sysfs / "active").write_text("random\n")
    seen = " ".join(each.seen for each in scene.findings() if each.verdict is Verdict.DIFFERS)
    assert "in quarantine (oops), and calls still get it" in seen


# --------------------------------------------------------------------------------------- gates


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (entry(ORDER), f"the module says that {UNBOUNDED} has a gate (direct), and the kernel"),
        (
            entry(ORDER) + f"{UNBOUNDED} (1) R\ttramp: (kprobe_ftrace_handler+0x0/0x1)\n",
            f"the module says that {UNBOUNDED} has a gate (direct), and the kernel",
        ),
    ],
)
def test_gate_that_is_not_there(scene: Scene, text: str, seen: str) -> None:
    scene.put("sys/kernel/tracing/enabled_functions", text)
    found = scene.one()
    assert (found.name, seen in found.seen) == ("gates", True)


def test_gate_that_the_kernel_does_not_show(scene: Scene) -> None:
    shared = f"{UNBOUNDED} (2) R I   ->arch_ftrace_ops_list_func+0x0/0x1d0\n"
    scene.put("sys/kernel/tracing/enabled_functions", entry(ORDER) + shared)
    (scene.sysfs / "functions" / UNBOUNDED / "backend").write_text("ftrace\n")
    assert f"{UNBOUNDED}: the entry is shared" in scene.one(Verdict.UNKNOWN).seen


def test_gate_of_which_the_module_does_not_know(scene: Scene) -> None:
    backend = scene.sysfs / "functions" / ORDER / "backend"
    backend.write_text("none\n")
    assert f"{ORDER} has no gate: its calls all get original" in scene.one().seen
    scene.module.unload(SUBSYSTEM, "random")
    scene.policy["definition"]["rules"] = []
    assert f"{ORDER} has a gate, and the module does not know of it" in scene.one().seen
    scene.put("sys/kernel/tracing/enabled_functions", entry(UNBOUNDED))
    assert {each.verdict for each in scene.findings()} == {Verdict.OK}
    backend.write_text("waiting\n")
    assert f"{ORDER} waits for its module" in " ".join(each.seen for each in scene.findings())


def test_gates_that_cannot_be_seen(scene: Scene) -> None:
    (scene.root / "sys/kernel/tracing/enabled_functions").unlink()
    assert "mount -t tracefs" in scene.one(Verdict.UNKNOWN).remedy
    scene.uid = 1000
    assert "sudo" in scene.one(Verdict.UNKNOWN).remedy
    assert verify.exit_code(scene.findings()) == 3


# ------------------------------------------------------------------------------ counts and leases


@pytest.mark.parametrize(("calls", "inside"), [(3, -1), (3, 4), (10_000, 801)])
def test_counts_that_cannot_be_true(scene: Scene, calls: int, inside: int) -> None:
    folder = scene.sysfs / "functions" / ORDER / "original"
    (folder / "calls").write_text(f"{calls}\n")
    (folder / "in_flight").write_text(f"{inside}\n")
    found = scene.one()
    assert found.seen == f"cannot be true: {ORDER} in original: {inside} of {calls} calls"
    (folder / "in_flight").write_text("3\n")
    assert {each.verdict for each in scene.findings()} == {Verdict.OK}


def test_lease_of_another_program(scene: Scene) -> None:
    scene.module.kmod.release(scene.file, SUBSYSTEM)
    assert "none, and a policy enforces it" in scene.one().seen
    scene.lease(by=1)
    scene.put("proc/1/comm", "systemd\n")
    assert "held by pid 1 (systemd), which is not the daemon" in scene.one().seen
    scene.policy["mode"] = "advise"
    assert {each.verdict for each in scene.findings()} == {Verdict.OK}
    scene.module.lose(SUBSYSTEM)
    assert "lost by pid 1 (systemd)" in scene.one().seen


def test_module_that_does_not_know_leases(scene: Scene) -> None:
    (scene.sysfs / "lease").unlink()
    assert "does not know leases" in scene.one(Verdict.UNKNOWN).seen


# ------------------------------------------------------------------------------------ the whole


def set_daemon(**changed: Any) -> Callable[[Scene], None]:  # noqa: ANN401 - JSON
    """Change what the daemon shows."""

    def change(scene: Scene) -> None:
        assert scene.daemon is not None
        scene.daemon |= changed

    return change


def later(seconds: float) -> Callable[[Scene], None]:
    """Let time pass."""

    def change(scene: Scene) -> None:
        scene.now += seconds

    return change


def stop(scene: Scene) -> None:
    """Stop the daemon with a signal."""
    scene.put(f"proc/{os.getpid()}/stat", f"{os.getpid()} (a) S) T 1 1\n")


@pytest.mark.parametrize(
    ("change", "name", "verdict", "seen"),
    [
        (stop, "daemon", Verdict.DIFFERS, "is stopped"),
        (later(600.0), "daemon", Verdict.DIFFERS, "is 10m old"),
        (later(-60.0), "daemon", Verdict.UNKNOWN, "the clock was set back"),
        (set_daemon(module=None), "module", Verdict.DIFFERS, "the daemon knows of none"),
        (set_daemon(module="0.0.9"), "module", Verdict.DIFFERS, "the daemon knows of 0.0.9"),
        (
            set_daemon(last_reload_successful=False, reload_error="a.yaml:1: bad\nmore"),
            "policies",
            Verdict.DIFFERS,
            "not what is in force: a.yaml:1: bad",
        ),
        (set_daemon(probes_attached=False), "probes", Verdict.DIFFERS, "lost"),
        (
            lambda scene: scene.module.enable(0),
            "enable",
            Verdict.DIFFERS,
            "policies that enforce wait: storm",
        ),
    ],
)
def test_the_whole(
    scene: Scene, change: Callable[[Scene], None], name: str, verdict: Verdict, seen: str
) -> None:
    change(scene)
    found = scene.one(verdict)
    assert (found.subsystem, found.name) == ("", name)
    assert seen in found.seen


def test_switched_off(scene: Scene) -> None:
    scene.policy["mode"] = "advise"
    scene.module.enable(0)
    assert {each.verdict for each in scene.findings()} == {Verdict.OK}
    (scene.sysfs / "active").write_text("random\n")
    assert "but not at original: readahead" in scene.one().seen


def test_daemon_that_a_switch_may_hold_for_long(scene: Scene) -> None:
    scene.policy["switch"] = {"mode": "exclusive", "timeout_seconds": 60.0}
    scene.now += 60.0
    assert {each.verdict for each in scene.findings()} == {Verdict.OK}


def test_without_a_daemon(scene: Scene) -> None:
    scene.daemon = None
    findings = scene.findings()
    unknown = [each.name for each in findings if each.verdict is Verdict.UNKNOWN]
    assert unknown == ["daemon", "edition"]
    assert verify.exit_code(findings) == 3


def test_subsystem_or_module_that_is_gone(scene: Scene) -> None:
    scene.policy["subsystem"] = "pipe"
    gone = [each for each in scene.findings() if each.verdict is Verdict.DIFFERS]
    assert [(each.subsystem, each.name) for each in gone] == [("pipe", "loaded")]
    assert "dynamosctl edition load pipe" in gone[0].remedy
    scene.module.remove()
    gone = [each for each in scene.findings() if each.verdict is Verdict.DIFFERS]
    assert [each.name for each in gone] == ["module", "loaded"]


# ---------------------------------------------------------------------------------- the command


@pytest.fixture
def run(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Give what runs ``verify`` on the scene, without waiting for it to settle."""
    monkeypatch.setattr(command, "_ROOT", scene.root)
    monkeypatch.setattr(command, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(os, "geteuid", lambda: scene.uid)

    def verify_now(*words: str) -> tuple[int, str, str]:
        scene.run()
        where = ["--runtime-dir", str(scene.run_dir)]
        code = main(["verify", *words, *where], scene.module.kmod)
        return code, *capsys.readouterr()

    return verify_now


def test_command(scene: Scene, run: Callable[..., tuple[int, str, str]]) -> None:
    code, shown, said = run()
    assert (code, said) == (0, "")
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "->" not in shown
    scene.policy |= {"target": "random", "paused": "policy storm paused by uid 0: a disk " * 5}
    code, shown, _ = run(SUBSYSTEM)
    assert code == 1
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "differs  readahead edition    original is active; policy storm wants" in shown
    assert "         -> if that is no longer meant: dynamosctl resume" in shown


def test_command_as_json(scene: Scene, run: Callable[..., tuple[int, str, str]]) -> None:
    (scene.root / "sys/kernel/tracing/enabled_functions").unlink()
    code, shown, _ = run("-o", "json")
    answer = json.loads(shown)
    assert (code, answer["kind"], answer["exit_code"]) == (3, "Verification", 3)
    (gates,) = [each for each in answer["findings"] if each["verdict"] != "ok"]
    assert (gates["subsystem"], gates["name"], gates["verdict"]) == (SUBSYSTEM, "gates", "unknown")
    assert answer["findings"][0]["subsystem"] is None


def test_command_about_nothing(scene: Scene, run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, said = run("readahed")
    assert (code, "did you mean readahead?" in said) == (1, True)
    scene.daemon = None
    status.remove(scene.run_dir)
    scene.module.remove()
    code, _, said = run()
    assert (code, "modprobe dynamos" in said) == (5, True)


def test_command_waits_for_what_passes(
    scene: Scene,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "_SETTLE_SECONDS", 60.0)
    scene.policy["target"] = "random"
    looks: list[float] = []

    def switch(seconds: float) -> None:
        looks.append(seconds)
        scene.module.kmod.switch(SUBSYSTEM, "random")

    monkeypatch.setattr(time, "sleep", switch)
    code, shown, _ = run()
    assert (code, len(looks)) == (0, 1)
    assert "random is active, as policy storm wants" in shown


def test_a_daemon_and_its_kernel_agree(
    tmp_path: Path, module: FakeModule, clock: ManualClock
) -> None:
    house = House(tmp_path, module, clock)
    write_policy(house.policies)
    findings: list[Finding] = []

    def look() -> None:
        machine = Machine(module.kmod, tmp_path / "nothing", uid=0)
        view = verify.look(machine, house.settings.runtime_dir, clock.wall())
        findings.extend(verify.compare(view))

    house.run(5.0, {1.5: lambda: house.block(3), 4.5: look})
    differ = [each.name for each in findings if each.verdict is Verdict.DIFFERS]
    # There is no /sys/module here, and the fake has a gate for one function only.
    assert differ == ["editions", "editions", "gates"]
    seen = {each.name: each.seen for each in findings}
    assert seen["edition"] == "random is active, as policy storm wants"
    assert seen["lease"].startswith("held by the daemon")
