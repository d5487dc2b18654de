# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosctl: answers, exit codes, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynamosd import __version__, console, journal, status
from dynamosd.cli import edition, edition_check, main
from dynamosd.model import LeaseTerms
from dynamosd.workshop.checks.report import Report
from tests.unit.build import write_policy

if TYPE_CHECKING:
    from dynamosd.testing import FakeModule

ROOT = Path(__file__).resolve().parents[3]
WIDTH = 80


class Control:
    """Runs dynamosctl on a fake module."""

    def __init__(
        self, module: FakeModule, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Keep what is needed to run it."""
        self.module = module
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self._capsys = capsys
        self.said = ""
        self.shown = ""

    def __call__(self, *arguments: str) -> int:
        """Run it; `shown` and `said` are its stdout and stderr."""
        words = list(arguments)
        if words[0] in {"status", "show", "switch", "reload", "verify"}:
            words += ["--runtime-dir", str(self.run_dir)]
        code = main(words, self.module.kmod)
        self.shown, self.said = self._capsys.readouterr()
        assert "Traceback" not in self.said
        return code

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON
        """Run it with ``-o json``; give its answer."""
        assert self(*arguments, "-o", "json") == 0
        answer = json.loads(self.shown)
        assert answer["apiVersion"] == "dynamos/v1alpha1"
        return answer

    def daemon(self, mode: str = "enforce") -> None:
        """Pretend that a daemon runs."""
        policy = {"name": "storm", "subsystem": "readahead", "mode": mode, "rule": "busy"}
        policy["reason"] = "rule busy: " + "in_flight is high and " * 20
        switch = {"time": "2026-01-01T00:00:00.000Z", "trigger": "policy", "reason": "x"}
        switch["to"] = "original"
        shown = {"pid": os.getpid(), "version": "1", "started": "2026-01-01T00:00:00.000Z"}
        answer = {**shown, "policies": [policy], "last_switches": {"readahead": switch}}
        status.write(self.run_dir, answer)


@pytest.fixture
def control(module: FakeModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Control:
    """Give one."""
    return Control(module, tmp_path, capsys)


# ---------------------------------------------------------------------------------- status, list


def test_status_without_a_daemon(control: Control) -> None:
    control.module.call("readahead", "page_cache_ra_order", blocked=2)
    assert control("status") == 0
    assert "daemon not running" in control.shown
    assert control.shown.splitlines()[-1].split() == [
        *("readahead", "original", "concurrent", "0", "2", "-", "-")
    ]


def test_status_with_a_daemon_fits_a_terminal(control: Control) -> None:
    control.daemon()
    assert control("status") == 0
    assert "storm (enforce)" in control.shown
    assert "active since 2026-01-01T00:00:00.000Z (policy)" in control.shown
    assert "storm: rule busy: in_flight is high" in control.shown
    assert max(map(len, control.shown.splitlines())) <= WIDTH
    assert "\033" not in control.shown


def test_status_shows_phases_that_are_not_ordinary(control: Control) -> None:
    control.daemon()
    shown = status.read(control.run_dir) or {}
    for phase, told in (("cooldown", True), ("active", False)):
        shown["policies"][0]["phase"] = phase
        status.write(control.run_dir, shown)
        assert control("status") == 0
        assert (f"storm is {phase}: dynamosctl explain" in control.shown) is told


def test_status_says_that_what_the_daemon_says_is_old(control: Control) -> None:
    control.daemon()
    shown = status.read(control.run_dir) or {}
    for updated, told in ((time.time() - 60.0, True), (time.time(), False)):
        status.write(control.run_dir, {**shown, "updated": journal.rfc3339(updated)})
        assert control("status") == 0
        assert (f"pid {os.getpid()}, has shown nothing for 6" in control.said) is told
        assert ("see: dynamosctl verify" in control.said) is told


def test_rollback_without_a_module(control: Control) -> None:
    control.module.remove()
    assert control("rollback", "--all") == 5
    assert "hint: nothing is to be brought back" in control.said


def test_explain_says_that_the_module_is_gone(control: Control) -> None:
    control.daemon()
    shown = status.read(control.run_dir) or {}
    shown |= {"updated": journal.rfc3339(time.time()), "policies": []}
    for module, told in ((None, True), ("0.1.0", False)):
        status.write(control.run_dir, {**shown, "module": module})
        assert control("explain", "--runtime-dir", str(control.run_dir)) == 0
        assert ("the kernel module is not loaded: what is said here" in control.said) is told


def test_status_does_not_take_an_older_switch_for_the_last(control: Control) -> None:
    control.daemon()
    control.module.kmod.switch("readahead", "random")
    assert control("status") == 0
    assert "active since" not in control.shown
    assert "last seen it go to original, at 2026-01-01T00:00:00.000Z" in control.shown


def test_status_without_a_subsystem(control: Control, tmp_path: Path) -> None:
    control.module.remove()
    control.module.insert()
    assert control("status") == 0
    assert "no subsystem is loaded" in control.shown
    del tmp_path


def test_status_as_json(control: Control) -> None:
    control.daemon()
    answer = control.json("status")
    assert answer["kind"] == "Status"
    assert answer["daemon"]["pid"] == os.getpid()
    (subsystem,) = answer["subsystems"]
    assert subsystem["active"] == "original"
    assert subsystem["policies"][0]["name"] == "storm"
    assert subsystem["last_switch"]["trigger"] == "policy"


def test_status_of_what_is_unusual_fits_a_terminal(control: Control) -> None:
    control.daemon()
    scope = "cgroup:/" + "very-long-name.slice/" * 8
    control.module.kmod.switch("readahead", "random", "scoped", scope=scope)
    folder = control.module.sysfs / "readahead"
    for name, value in {"held": 3, "before_gate": 2, "unreliable": 1, "objects": 9}.items():
        (folder / name).write_text(f"{value}\n")
    assert control("status") == 0
    assert max(map(len, control.shown.splitlines())) <= WIDTH
    for text in ("partial: random (scoped, cgroup:/", "held: 3", "gate: 2", "be read: 1"):
        assert text in control.shown
    (subsystem,) = control.json("status")["subsystems"]
    assert (subsystem["partial"], subsystem["scope"]) == ("random", scope)
    assert (subsystem["held"], subsystem["objects"]) == (3, 9)
    assert (subsystem["before_gate"], subsystem["unreliable"]) == (2, 1)


def test_status_is_short_when_nothing_is_unusual(control: Control) -> None:
    assert control("status") == 0
    for text in ("partial", "held", "stacks", "gate", "lease", "quarantine", "off"):
        assert text not in control.shown
    (subsystem,) = control.json("status")["subsystems"]
    assert (subsystem["partial"], subsystem["scope"], subsystem["held"]) == (None, None, 0)


def test_status_shows_a_policys_trouble(control: Control) -> None:
    policy = {"name": "storm", "subsystem": "readahead", "mode": "enforce", "trouble": "waiting"}
    switch = {"time": "2026", "trigger": "manual", "to": "random"}
    shown = {"pid": os.getpid(), "policies": [policy], "last_switches": {"readahead": switch}}
    status.write(control.run_dir, shown)
    control.module.kmod.switch("readahead", "random", "scoped", scope="handler")
    assert control("status") == 0
    assert "storm: waiting" in control.shown
    assert "partial since 2026 (manual)" in control.shown


def test_list_marks_what_is_partial(control: Control) -> None:
    control.module.kmod.switch("readahead", "random", "scoped", scope="handler")
    assert control("list") == 0
    assert " random~ " in control.shown
    assert " original* " in control.shown
    (subsystem,) = control.json("list")["subsystems"]
    assert (subsystem["partial"], subsystem["scope"]) == ("random", "handler")
    assert subsystem["editions"][1]["modes"][0] == "concurrent"


def test_list(control: Control) -> None:
    control.module.call("readahead", "page_cache_ra_order", 7)
    assert control("list") == 0
    row = ["readahead", "page_cache_ra_order", "direct", "original*", "7", "0"]
    assert row in [line.split() for line in control.shown.splitlines()]
    answer = control.json("list")
    editions = answer["subsystems"][0]["functions"][0]["editions"]
    assert {"name": "original", "calls": 7, "in_flight": 0} in editions


# --------------------------------------------------------------------------------------- switch


def test_switch(control: Control) -> None:
    assert control("switch", "readahead", "random") == 0
    assert control.shown == "readahead: original -> random\n"
    assert control.module.kmod.read_active("readahead") == "random"
    assert control("switch", "readahead", "random") == 0
    assert control.shown == "readahead: random is active already\n"
    answer = control.json("switch", "readahead", "original")
    assert (answer["origin"], answer["target"], answer["changed"]) == ("random", "original", True)


def test_exclusive_switch_that_times_out(control: Control) -> None:
    control.module.call("readahead", "page_cache_ra_order", blocked=1)
    assert (
        control("switch", "readahead", "random", "--mode", "exclusive", "--timeout", "500ms") == 6
    )
    assert "500 ms; still inside: a reader[1001] in page_cache_ra_order" in control.said
    assert "edition who readahead" in control.said


def test_timeout_leaves_the_mode_to_the_module(control: Control) -> None:
    assert control.json("switch", "readahead", "random", "--timeout", "1s")["mode"] == "concurrent"


def test_edition_that_is_active_has_no_scope(control: Control) -> None:
    assert control("switch", "readahead", "original", "--scope", "handler") == 1
    assert "original is active" in control.said


def test_mode_that_an_edition_does_not_allow(control: Control) -> None:
    (control.module.sysfs / "readahead/editions/random/modes").write_text("concurrent\n")
    assert control("switch", "readahead", "random", "--mode", "exclusive") == 6
    assert "from original to random one can switch with: concurrent" in control.said


def test_scoped_switch_and_its_ends(control: Control) -> None:
    words = ("switch", "readahead", "random", "--scope", "cpus:0-3")
    assert control(*words) == 0
    assert control.shown == "readahead: original -> random in part (scoped, cpus:0-3)\n"
    assert control(*words, "--mode", "scoped") == 0
    assert control.shown == "readahead: random is partial already (scoped, cpus:0-3)\n"
    assert control("switch", "readahead", "original") == 0
    assert control.shown == "readahead: random -> original\n"
    answer = control.json(*words)
    assert (answer["partial"], answer["scope"], answer["mode"]) == (True, "cpus:0-3", "scoped")
    assert control("switch", "readahead", "random") == 0
    assert control.shown == "readahead: original -> random\n"
    assert control.module.kmod.read_active("readahead") == "random"


def test_per_object_switch(control: Control) -> None:
    control.module.call("readahead", "page_cache_ra_order", blocked=1)
    assert control("switch", "readahead", "random", "--objects", "keep") == 0
    assert control.shown == "readahead: original -> random in part (per-object)\n"


def test_scoped_switch_says_that_a_policy_waits(control: Control) -> None:
    control.daemon()
    assert control("switch", "readahead", "random", "--scope", "share:1/100") == 0
    assert "policy storm enforces readahead and waits until this is over" in control.said


def test_switch_warns_of_a_policy_that_will_fight_it(control: Control) -> None:
    control.daemon()
    assert control("switch", "readahead", "random") == 0
    assert "policy storm enforces readahead" in control.said


def test_switch_is_quiet_beside_a_policy_that_only_advises(control: Control) -> None:
    control.daemon("advise")
    assert control("switch", "readahead", "random") == 0
    assert control.said == ""


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (("readahed", "random"), 1, "no subsystem readahed", "did you mean readahead?"),
        (("readahead", "randm"), 1, "no edition randm", "did you mean random?"),
        (("readahead", "random", "--mode", "scoped"), 2, "needs --scope", "cpus:LIST"),
        (
            ("readahead", "random", "--mode", "exclusiv"),
            2,
            '"exclusiv" is none of',
            "did you mean exclusive?",
        ),
        (("readahead", "random", "--objects", "kep"), 2, '"kep" is none of', "did you mean keep?"),
        (("readahead", "random", "--timeout", "soon"), 2, '"soon" is not a duration', "--help"),
        (("readahead", "random", "--timeout", "500"), 2, '"500" is not a duration', "--help"),
        (("readahead", "random", "--timeout", "2m"), 2, "not between 1ms and 1m", "--help"),
        (("readahead", "random", "--timeout", "0"), 2, "not between 1ms and 1m", "--help"),
        (("readahead", "random", "--scope", "cpu:0"), 2, '"cpu:0" is not a scope', "--help"),
        (("readahead", "random", "--scope", "cpus:"), 2, '"cpus:" is not a scope', "--help"),
        (("readahead", "random", "--scope", "task:-1"), 2, "is not a scope", "--help"),
        (("readahead", "random", "--scope", "task:\u0661"), 2, "is not a scope", "--help"),
        (("readahead", "random", "--scope", "cgroup:x"), 2, "is not a scope", "--help"),
        (("readahead", "random", "--scope", "cgroup:/a b"), 2, "is not a scope", "--help"),
        (("readahead", "random", "--scope", "share:1/0"), 2, "N is between 1 and", "--help"),
        (("readahead", "random", "--scope", "share:1/1000001"), 2, "N is between", "--help"),
        (("readahead", "random", "--scope", "share:2/3"), 2, "is not a scope", "--help"),
        (
            ("readahead", "random", "--mode", "concurrent", "--timeout", "1s"),
            2,
            "--timeout is for mode exclusive, and the mode is concurrent",
            "switch --help",
        ),
        (
            ("readahead", "random", "--scope", "handler", "--objects", "keep"),
            2,
            "--objects is for mode per-object, and the mode is scoped",
            "switch --help",
        ),
        (
            ("readahead", "random", "--timeout", "1s", "--scope", "handler"),
            2,
            "--timeout is for mode exclusive, and the mode is scoped",
            "switch --help",
        ),
        (("readahead", "random", "--scope", "task:99999"), 1, "no task 99999", "must exist"),
        (("readahead",), 2, "required: EDITION", "--help"),
        (("readahead", "random", "--force"), 2, "unrecognized", "--help"),
    ],
)
def test_switch_that_fails(
    control: Control, words: tuple[str, ...], code: int, message: str, hint: str
) -> None:
    assert control("switch", *words) == code
    first, second = control.said.splitlines()
    assert first.startswith("dynamosctl: error: ")
    assert message in first
    assert second.startswith("dynamosctl: hint: ")
    assert hint in second
    assert control.module.kmod.read_active("readahead") == "original"


def test_errors_as_json(control: Control) -> None:
    assert control("switch", "readahead", "randm", "-o", "json") == 1
    error = json.loads(control.said)["error"]
    assert error["code"] == "invalid"
    assert error["hint"] == "did you mean random?"
    assert control("switch", "-o", "json") == 2
    assert json.loads(control.said)["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["swich", "a", "b"], "there is no command swich", "did you mean switch?"),
        (["edition", "sett"], "there is no command sett", "did you mean set?"),
        (["edition", "xyz"], "there is no command xyz", "commands here: list, load, unload, set"),
        (
            ["switch", "a", "b", "--mode", "exclsive"],
            '--mode: "exclsive" is none of: concurrent, exclusive, per-object, scoped',
            "did you mean exclusive?",
        ),
        (["list", "-o", "yaml"], '"yaml" is none of: table, json', "see: dynamosctl list --help"),
    ],
)
def test_a_word_that_is_mistyped_is_guessed(
    control: Control, words: list[str], said: str, hint: str
) -> None:
    assert control(*words) == 2
    assert said in control.said
    assert f"hint: {hint}" in control.said


@pytest.mark.parametrize("command", ["status", "list", "switch a b", "edition list"])
def test_module_not_loaded(control: Control, command: str) -> None:
    control.module.remove()
    assert control(*command.split()) == 5
    assert "modprobe dynamos" in control.said


def test_version(control: Control) -> None:
    assert control("version") == 0
    assert control.shown == f"dynamosctl {__version__}\nmodule     0.1.0\n"
    control.module.remove()
    assert control.json("version")["module"] is None


# ---------------------------------------------------------------------------------------- check


def test_check(control: Control, tmp_path: Path) -> None:
    write_policy(tmp_path / "p", when='in_flight("page_cache_ra_order") > 2.0')
    code = control("check", str(tmp_path / "p"))
    assert "1 of 1 policies can be used" in control.shown
    assert (code, control.said) == (0, "")


def test_check_finds_names_that_the_module_does_not_have(control: Control, tmp_path: Path) -> None:
    file = write_policy(tmp_path / "p", edition="randm")
    assert control("check", str(file)) == 1
    assert f"{file}:11:16: error: subsystem" in control.shown
    assert control("check", "--offline", str(file)) != 1


def test_check_without_the_module(control: Control, tmp_path: Path) -> None:
    control.module.remove()
    assert control("check", str(write_policy(tmp_path / "p"))) != 1
    assert "names are not checked" in control.said


def test_check_of_settings(control: Control, tmp_path: Path) -> None:
    write_policy(tmp_path / "p")
    (tmp_path / "p" / "dynamosd.yaml").write_text("windw: 1s\n")
    assert control("check", str(tmp_path / "p")) == 1
    assert "dynamosd.yaml:1:1: error: unknown key" in control.shown


def test_check_knows_the_labels_from_the_settings(control: Control, tmp_path: Path) -> None:
    file = write_policy(tmp_path / "p", when='\'label("role") == "db"\'')
    assert control("check", str(file)) == 0
    assert "12:20: note: names of labels were not checked" in control.shown
    assert control("check", str(tmp_path / "p")) == 1
    assert 'error: the host has no label "role" (there are hostname, kernel)' in control.shown
    assert control("check", str(file), "--config", str(tmp_path / "p")) == 1
    (tmp_path / "p" / "dynamosd.yaml").write_text("labels: {role: web}\n")
    assert control("check", str(tmp_path / "p")) == 0
    assert control("check", str(file), "--config", str(tmp_path / "p")) == 0
    assert "not checked" not in control.shown
    (tmp_path / "p" / "dynamosd.yaml").write_text("labels: 5\n")
    assert control("check", str(tmp_path / "p")) == 1
    assert "note: names of labels were not checked" in control.shown


def test_check_as_json(control: Control, tmp_path: Path) -> None:
    file = write_policy(tmp_path / "p", when="nonsense(")
    assert control("check", str(file), "-o", "json") == 1
    answer = json.loads(control.shown)
    assert answer["kind"] == "CheckResult"
    assert answer["policies"] == []
    assert answer["problems"][0]["line"] == 12


def test_check_of_a_file_that_is_not_there(control: Control, tmp_path: Path) -> None:
    assert control("check", str(tmp_path / "none.yaml")) == 1
    assert "cannot be read" in control.shown


# ------------------------------------------------------------------------------------- editions


class Tools:
    """modprobe, rmmod and insmod, as a program that notes how it was called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put them on PATH."""
        self._log = folder / "called"
        self._answer = folder / "answer"
        self._folder = folder / "bin"
        self._folder.mkdir()
        for name in ("modprobe", "rmmod", "insmod"):
            tool = self._folder / name
            tool.write_text(f'#!/bin/sh\necho {name} "$@" >> {self._log}\n. {self._answer}\n')
            tool.chmod(0o755)
        self.answer("exit 0")
        monkeypatch.setenv("PATH", f"{self._folder}:{os.environ['PATH']}")

    def answer(self, script: str) -> None:
        """Say what the tools do when they are called."""
        self._answer.write_text(script + "\n")

    @property
    def called(self) -> list[str]:
        """The commands so far."""
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """Give kmod's tools."""
    return Tools(tmp_path, monkeypatch)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the files that were checked before they were loaded; all of them are fit."""
    files: list[str] = []

    def check(path: Path, _kernel: object) -> Report:
        files.append(str(path))
        return Report(path, "", None, ())

    monkeypatch.setattr(edition_check, "check", check)
    return files


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("readahead/random", "modprobe dynamos_readahead_random"),
        ("read-ahead/big-window", "modprobe dynamos_read_ahead_big_window"),
        ("readahead", "modprobe dynamos_readahead"),
        ("dynamos_readahead_random", "modprobe dynamos_readahead_random"),
        ("/tmp/my.ko", "insmod /tmp/my.ko"),  # noqa: S108 - only a name
    ],
)
def test_edition_load(control: Control, tools: Tools, name: str, command: str) -> None:
    assert control("edition", "load", name) == 0
    asked = [command.replace(" ", " --show-depends ")] * command.startswith("modprobe")
    assert tools.called == [*asked, command]
    assert "loaded already" in control.shown


def test_edition_load_checks_first(control: Control, tools: Tools, checked: list[str]) -> None:
    tools.answer("echo insmod /m/dynamos_x.ko; echo insmod /m/fuse.ko a=b; echo builtin ext4")
    assert control("edition", "load", "x", "-o", "json") == 0
    assert checked == ["/m/dynamos_x.ko"]
    assert json.loads(control.shown)["checked"] == checked
    assert control("edition", "load", "/m/mine.ko.xz") == 0
    assert checked[1:] == ["/m/mine.ko.xz"]


def test_edition_load_of_what_modprobe_would_run(control: Control, tools: Tools) -> None:
    tools.answer("echo install /bin/mischief")
    assert control("edition", "load", "x") == 6
    assert "would run: install /bin/mischief" in control.said
    assert tools.called == ["modprobe --show-depends dynamos_x"]


def test_edition_load_of_what_is_unfit(control: Control, tools: Tools, tmp_path: Path) -> None:
    file = tmp_path / "mine.ko"
    file.write_bytes(b"\x7fELF")
    assert control("edition", "load", str(file)) == 1
    assert "is not loaded: file: it is cut off in its header" in control.said
    assert "dynamosctl edition check" in control.said
    assert tools.called == []


def test_edition_load_says_what_is_new(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*command: str) -> str:
        if "--show-depends" not in command:
            control.module.load("readahead", "streaming")
        return ""

    monkeypatch.setattr(edition, "_run", load)
    assert control("edition", "load", "readahead/streaming") == 0
    assert control.shown == "loaded readahead/streaming\n"


@pytest.mark.parametrize(
    ("said", "code", "hint"),
    [
        ("modprobe: FATAL: Module x not found in directory /lib", 1, "built for this kernel"),
        ("modprobe: ERROR: could not insert: Operation not permitted", 5, "root"),
        ("insmod: ERROR: could not insert module: Invalid module format", 1, "dmesg"),
    ],
)
def test_edition_load_that_fails(
    control: Control, tools: Tools, said: str, code: int, hint: str
) -> None:
    tools.answer(f"echo '{said}' >&2; exit 1")
    assert control("edition", "load", "readahead/x") == code
    assert said in control.said
    assert hint in control.said


def test_edition_load_without_kmod(
    control: Control, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert control("edition", "load", "readahead/random") == 4


@pytest.fixture
def two_modules(control: Control) -> Control:
    """Give a module whose second edition is a kernel module of its own."""
    path = control.module.sysfs / "readahead/editions/random/module"
    path.write_text("dynamos_readahead_random\n")
    return control


@pytest.mark.parametrize("name", ["readahead/random", "dynamos_readahead_random"])
def test_edition_unload(two_modules: Control, tools: Tools, name: str) -> None:
    assert two_modules("edition", "unload", name) == 0
    assert tools.called == ["rmmod dynamos_readahead_random"]


def test_edition_that_is_active_is_not_unloaded(two_modules: Control, tools: Tools) -> None:
    two_modules.module.kmod.switch("readahead", "random")
    assert two_modules("edition", "unload", "readahead/random") == 6
    assert "readahead/random is active" in two_modules.said
    assert "dynamosctl switch readahead original" in two_modules.said
    assert tools.called == []


def test_edition_that_is_draining_is_not_unloaded(two_modules: Control, tools: Tools) -> None:
    two_modules.module.kmod.switch("readahead", "random")
    two_modules.module.call("readahead", "page_cache_ra_order", blocked=3)
    two_modules.module.kmod.switch("readahead", "original")
    assert two_modules("edition", "unload", "readahead/random") == 6
    assert "draining: 3 in flight" in two_modules.said
    assert tools.called == []


def test_edition_that_gets_busy_meanwhile(two_modules: Control, tools: Tools) -> None:
    tools.answer("echo 'rmmod: ERROR: Module dynamos_readahead_random is in use' >&2; exit 1")
    assert two_modules("edition", "unload", "readahead/random") == 6


def test_edition_that_is_not_there(two_modules: Control, tools: Tools) -> None:
    assert two_modules("edition", "unload", "readahead/none") == 1
    assert "dynamos_readahead_random" in two_modules.said
    assert tools.called == []


def test_edition_list(control: Control) -> None:
    assert control("edition", "list") == 0
    assert "original" in control.shown
    answer = control.json("edition", "list")
    assert [each["state"] for each in answer["editions"]] == ["active", "idle"]


def test_edition_list_shows_modes_and_parameters(control: Control) -> None:
    control.module.give_parameter("readahead", "random", "window", 64)
    (control.module.sysfs / "readahead/editions/random/modes").write_text("concurrent scoped\n")
    assert control("edition", "list") == 0
    shown = "readahead/random: modes concurrent, scoped; parameters window=64"
    assert shown in control.shown
    assert max(map(len, control.shown.splitlines())) <= WIDTH
    answer = control.json("edition", "list")["editions"][1]
    assert (answer["modes"], answer["parameters"]) == (["concurrent", "scoped"], {"window": "64"})


def test_edition_that_is_partial_is_not_unloaded(two_modules: Control, tools: Tools) -> None:
    two_modules.module.kmod.switch("readahead", "random", "scoped", scope="handler")
    assert two_modules("edition", "unload", "readahead/random") == 6
    assert "readahead/random is partial" in two_modules.said
    assert "dynamosctl switch readahead original" in two_modules.said
    assert tools.called == []


def test_edition_set(control: Control) -> None:
    control.module.give_parameter("readahead", "random", "window", 64)
    assert control("edition", "set", "readahead", "random", "window=128") == 0
    assert control.shown == "readahead/random: window=128\n"
    answer = control.json("edition", "set", "readahead", "random", "window=32")
    assert (answer["kind"], answer["name"], answer["value"]) == ("EditionParameter", "window", "32")


def test_edition_set_of_what_may_not_be_read(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.module.give_parameter("readahead", "random", "key", 1)
    monkeypatch.setattr(type(control.module.kmod), "read_parameter", lambda *_words: None)
    assert control("edition", "set", "readahead", "random", "key=2") == 0
    assert control.shown == "readahead/random: key was set; it may not be read\n"


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (("readahead", "random", "window"), 2, '"window" is not NAME=VALUE', "--help"),
        (("readahead", "random", "=5"), 2, '"=5" is not NAME=VALUE', "--help"),
        (("readahead", "random"), 2, "required: NAME=VALUE", "--help"),
        (("readahead", "random", "windw=5"), 1, "no parameter windw", "did you mean window?"),
        (("readahead", "random", "window=big"), 1, "takes a number", "it is 64 now"),
        (("readahead", "randm", "window=1"), 1, "no edition randm", "did you mean random?"),
    ],
)
def test_edition_set_that_fails(
    control: Control, words: tuple[str, ...], code: int, message: str, hint: str
) -> None:
    control.module.give_parameter("readahead", "random", "window", 64)
    assert control("edition", "set", *words) == code
    first, second = control.said.splitlines()
    assert message in first
    assert hint in second


def test_edition_quarantine_and_clear(control: Control) -> None:
    control.module.kmod.switch("readahead", "random")
    assert control("edition", "quarantine", "readahead", "random") == 0
    said = "readahead/random: in quarantine (command)\nreadahead: original is active now\n"
    assert control.shown == said
    assert control("switch", "readahead", "random") == 6
    assert "edition random is in quarantine (command)" in control.said
    assert "hint: if it is good again: dynamosctl edition clear readahead random" in control.said
    assert control("edition", "clear", "readahead", "random") == 0
    said = "readahead/random: may be switched to again (it was in quarantine: command)\n"
    assert control.shown == said
    assert control("edition", "clear", "readahead", "random") == 0
    assert control.shown == "readahead/random was not in quarantine\n"
    assert control("switch", "readahead", "random") == 0


def test_edition_quarantine_as_json(control: Control) -> None:
    answer = control.json("edition", "quarantine", "readahead", "random")
    assert (answer["kind"], answer["quarantine"]) == ("EditionQuarantine", "command")
    answer = control.json("edition", "clear", "readahead", "random")
    assert (answer["quarantine"], answer["active"]) == (None, "original")


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (("readahed", "random"), 1, "no subsystem readahed", "did you mean readahead?"),
        (("readahead", "randm"), 1, "no edition randm", "did you mean random?"),
        (("readahead", "a b"), 1, "is not a name", "dynamosctl list"),
        (("readahead",), 2, "required: EDITION", "--help"),
    ],
)
def test_edition_quarantine_that_fails(
    control: Control, words: tuple[str, ...], code: int, message: str, hint: str
) -> None:
    for command in ("quarantine", "clear"):
        assert control("edition", command, *words) == code
        first, second = control.said.splitlines()
        assert message in first
        assert hint in second


def test_original_cannot_be_put_in_quarantine(control: Control) -> None:
    assert control("edition", "quarantine", "readahead", "original") == 1
    assert "original cannot be put in quarantine" in control.said
    assert control("switch", "readahead", "original") == 0


def test_what_the_modules_safety_did_is_shown_and_fits_a_terminal(control: Control) -> None:
    control.daemon()
    control.module.kmod.switch("readahead", "random")
    control.module.trip("readahead", "random")
    control.module.kmod.lease(
        control.module.open(by=812), "readahead", LeaseTerms("hold", "original", 9.0, 0.0)
    )
    bad = "random: in quarantine (oops); threads died inside: 1"
    assert control("status") == 0
    assert f"  {bad}\n" in control.shown
    assert "  lease held by pid 812\n" in control.shown
    assert max(map(len, control.shown.splitlines())) <= WIDTH
    assert control("list") == 0
    assert " random! " in control.shown
    assert f"  readahead: {bad}\n" in control.shown
    assert "  readahead: lease held by pid 812\n" in control.shown
    assert max(map(len, control.shown.splitlines())) <= WIDTH
    assert control("edition", "list") == 0
    assert "  readahead/random: in quarantine (oops); threads died inside: 1;" in control.shown
    assert "  readahead: lease held by pid 812\n" in control.shown
    assert max(map(len, control.shown.splitlines())) <= WIDTH
    for answer in (control.json("status"), control.json("list")):
        (subsystem,) = answer["subsystems"]
        assert (subsystem["lease"], subsystem["lease_holder"]) == ("held", 812)
        edition = subsystem["editions"][1]
        assert (edition["name"], edition["quarantine"], edition["died"]) == ("random", "oops", 1)
    edition = control.json("edition", "list")["editions"][1]
    assert (edition["quarantine"], edition["died"]) == ("oops", 1)


def test_switched_off_module(control: Control) -> None:
    control.module.enable(0)
    assert control("switch", "readahead", "random") == 6
    assert "the module is switched off" in control.said
    assert "echo 1 > /sys/module/dynamos/parameters/enable" in control.said
    assert control("status") == 0
    assert "the module is switched off (enable=0)" in control.shown
    assert max(map(len, control.shown.splitlines())) <= WIDTH
    module = control.json("status")["module"]
    assert (module["enabled"], module["tripwire"]) == (False, "oops")
    assert control("switch", "readahead", "original") == 0


def test_edition_who(control: Control) -> None:
    assert control("edition", "who", "readahead") == 0
    assert control.shown == "nobody is inside readahead\n"
    control.module.call("readahead", "page_cache_ra_order", blocked=20)
    (control.module.sysfs / "readahead/unreliable").write_text("1\n")
    assert control("edition", "who", "readahead") == 0
    assert "page_cache_ra_order  original  1001  a reader  io_schedule  gated" in control.shown
    assert control.shown.endswith("and 5 more\n")
    answer = control.json("edition", "who", "readahead")
    assert (answer["kind"], answer["more"], len(answer["threads"])) == ("ThreadList", 5, 16)
    assert answer["threads"][0]["comm"] == "a reader"
    control.module.leave("readahead")
    assert control("edition", "who", "readahead") == 0
    assert "this stack cannot be read" in control.shown
    assert control("edition", "who", "readahed") == 1
    assert "did you mean readahead?" in control.said


# ---------------------------------------------------------------------------- how it behaves


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run some Python beside the tests."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize("command", ["status", "switch"])
def test_what_rescues_a_machine_imports_little(command: str) -> None:
    code = f"import sys; from dynamosd.cli import main; main(['{command}', 'a', 'b'])\n"
    code += "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    heavy = {"pydantic", "yaml", "prometheus_client", "rich", "bcc", "cel_expr_python", "http"}
    assert not heavy & set(run(code).stdout.split())


def test_reader_that_goes_away(module: FakeModule) -> None:
    code = (
        "import sys; from dynamosd.testing import FakeModule; from dynamosd.cli import main\n"
        f"sys.exit(main(['list'], FakeModule({str(module.sysfs.parent)!r}).kmod))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert console.run_program("x", interrupted) == 130
    assert capsys.readouterr().err == ""


def test_a_fault_of_the_program_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def faulty() -> int:
        raise ValueError("what is this")

    assert console.run_program("x", faulty) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("x: error: internal error: ValueError: what is this at test_cli.py:")
    assert "report" in second


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for command in ("status", "show", "switch", "history", "verify", "edition", "version"):
        assert command in shown
    assert "6 refused by a safety rule" in shown


@pytest.mark.parametrize(
    "command",
    ["switch", "show", "verify", "edition set", "edition quarantine", "pause", "resume"],
)
def test_help_has_examples_that_fit_a_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    shown = capsys.readouterr().out
    assert f"  dynamosctl {command} readahead" in shown
    lines = shown.partition("exit codes:")[0].splitlines()
    assert max(map(len, lines)) <= WIDTH


def test_check_for_github(control: Control, tmp_path: Path) -> None:
    file = write_policy(tmp_path, edition="randum")
    assert control("check", str(file), "--format", "github") == 1
    line = next(line for line in control.shown.splitlines() if line.startswith("::error"))
    assert line.startswith(f"::error file={file},line=")
    assert "title=unknown-edition::" in line
    assert 'did you mean "random"?' in line


# -------------------------------------------------------------------------------------- tests


def test_tests_of_policies_pass(control: Control) -> None:
    file = str(ROOT / "policies" / "tests" / "readahead.yaml")
    assert control("test", file) == 0
    assert control.shown.startswith("ok ")
    assert "tests of readahead passed" in control.shown
    answer = control.json("test", file)
    assert answer["kind"] == "TestResult"
    (shown,) = answer["files"]
    assert (shown["policy"], shown["passed"], shown["problems"]) == ("readahead", True, [])
    assert shown["tests"][0]["switches"][0]["to"] == "random"
    assert all(test["passed"] for test in shown["tests"])


def test_tests_of_policies_fail_with_a_place(control: Control, tmp_path: Path) -> None:
    text = (ROOT / "policies" / "tests" / "readahead.yaml").read_text()
    text = text.replace("../readahead.yaml", str(ROOT / "policies" / "readahead.yaml"))
    file = tmp_path / "test.yaml"
    file.write_text(text.replace("{at: 2s, active: original", "{at: 2s, active: random", 1))
    good = str(ROOT / "policies" / "tests" / "readahead.yaml")
    assert control("test", good, str(file)) == 1
    assert f'{file}:18:26: error: at 2s "active" is "original", not "random"' in control.shown
    assert "FAILED" in control.shown
    assert control("test", str(file), "-o", "json") == 1
    (shown,) = json.loads(control.shown)["files"]
    failed = [test for test in shown["tests"] if not test["passed"]]
    assert [problem["line"] for test in failed for problem in test["problems"]] == [18]
    assert control("test", str(tmp_path / "missing.yaml")) == 1
    assert "cannot be read" in control.shown


# ------------------------------------------------------------------------------------- reload

DAEMON = """
import os, signal, sys
from pathlib import Path
from dynamosd import status

folder, error = Path(sys.argv[1]), sys.argv[2]
shown = {"pid": os.getpid(), "reloads": 0, "last_reload_successful": True, "reload_error": ""}
shown["policies"] = [{"name": "storm"}, {"name": "calm"}]

def read_again(_number, _frame):
    if error != "silent":
        shown.update(reloads=1, last_reload_successful=not error, reload_error=error)
    status.write(folder, shown)

signal.signal(signal.SIGHUP, read_again)
status.write(folder, shown)
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(
    ("error", "code", "shown", "said"),
    [
        ("", 0, "policies read again: storm, calm", ""),
        ("storm.yaml:1:1: error: no", 1, "storm.yaml:1:1: error: no", "last good ones stay"),
        ("silent", 5, "", "has not read its policies within 0.5 s"),
    ],
)
def test_reload(control: Control, error: str, code: int, shown: str, said: str) -> None:
    command = [sys.executable, "-c", DAEMON, str(control.run_dir), error]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == b"ready\n"
            wait = ["--timeout", "500ms"] if error == "silent" else []
            assert control("reload", *wait) == code
            assert shown in control.shown
            assert said in control.said
        finally:
            daemon.kill()


def test_reload_without_a_daemon(control: Control) -> None:
    assert control("reload") == 5
    assert "no daemon is running" in control.said
