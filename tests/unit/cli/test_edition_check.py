# SPDX-License-Identifier: GPL-2.0-or-later
"""``dynamosctl edition check``, and what ``edition load`` says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamosd.cli import edition, edition_check, main
from dynamosd.doctor import Machine
from dynamosd.kmod import Kmod
from dynamosd.testing import FakeModule
from tests.unit.workshop import module as modules
from tests.unit.workshop.module import RELEASE, Place

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Give a kernel, which the command takes for the one that runs, and its modules' folder."""
    made = Place(tmp_path / "root")

    def machine(kmod: Kmod, root: Path = made.folder, release: str = RELEASE) -> Machine:
        return Machine(kmod, root, release)

    monkeypatch.setattr(edition_check, "Machine", machine)
    modules.be_roots(monkeypatch)
    return made


@pytest.fixture
def run(module: FakeModule, capsys: pytest.CaptureFixture[str]) -> Run:
    """Give what runs ``edition …``: its exit code, what it shows and what it says."""

    def command(*words: str | Path) -> tuple[int, str, str]:
        code = main(["edition", *map(str, words)], module.kmod)
        shown, said = capsys.readouterr()
        assert "Traceback" not in said
        assert "internal error" not in said
        return code, shown, said

    return command


def test_the_report(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    file = place.put("modules/mine.ko", modules.edition())
    code, shown, _ = run("check", file)
    assert "what it is             edition files/mine, which replaces files_read" in shown
    assert "warned  prototypes             it has no type information (BTF)" in shown
    assert "-> build it where pahole is" in shown
    assert shown.endswith(f"mine.ko on {RELEASE}: can be loaded, with warnings\n")
    assert code == 3


def test_the_document(place: Place, run: Run) -> None:
    code, shown, _ = run("check", place.put("modules/mine.ko", modules.good()), "-o", "json")
    found = json.loads(shown)
    assert (found["kind"], found["kernel"], found["exit_code"]) == ("EditionCheck", RELEASE, code)
    assert found["module"]["kind"] == "edition"
    assert [each["name"] for each in found["module"]["functions"]] == ["files_read"]
    assert {"name": "stack", "verdict": "passed"}.items() <= found["checks"][-1].items()
    code, shown, _ = run("check", place.folder / "none.ko", "-o", "json")
    found = json.loads(shown)
    assert (code, found["module"], found["checks"][0]["verdict"]) == (1, None, "failed")


@pytest.mark.parametrize("release", ["9.9", "../..", "/", ""])
def test_a_kernel_that_is_not_here(place: Place, run: Run, release: str) -> None:
    code, _, said = run("check", place.put("mine.ko", b""), "--kernel", release)
    assert code == 4
    assert "nothing is known here of a kernel" in said


def test_another_kernel(place: Place, run: Run) -> None:
    other = "6.8.1-other"
    place.put(f"lib/modules/{other}/build/.config", modules.CONFIG.encode())
    file = place.put("modules/mine.ko", modules.good())
    code, shown, _ = run("check", file, "--kernel", other, "-o", "json")
    verdicts = {each["name"]: each["verdict"] for each in json.loads(shown)["checks"]}
    assert (code, verdicts["kernel"], verdicts["gates"]) == (1, "failed", "not applicable")


@pytest.fixture
def inserted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Give the commands that would have loaded something."""
    commands: list[tuple[str, ...]] = []

    def note(*command: str) -> str:
        commands.append(command)
        return ""

    monkeypatch.setattr(edition, "_run", note)
    return commands


def test_what_fails_is_not_loaded(place: Place, run: Run, inserted: list[tuple[str, ...]]) -> None:
    file = place.put("modules/mine.ko", modules.edition(body=f"panic(0); {modules.BODY}"))
    code, shown, said = run("load", file)
    assert (code, shown, inserted) == (6, "", [])
    assert "mine.ko is not loaded: calls: panic (in" in said
    assert f"dynamosctl edition check {file}" in said
    place.put("modules/mine.ko", modules.edition(vermagic="6.1 SMP "))
    code, _, said = run("load", file, "-o", "json")
    assert (code, inserted) == (1, [])
    assert json.loads(said.splitlines()[-1])["error"]["code"] == "invalid"


def test_warnings_are_shown_and_it_is_loaded(
    place: Place, run: Run, inserted: list[tuple[str, ...]]
) -> None:
    file = place.put("modules/mine.ko", modules.edition())
    code, _, said = run("load", file)
    assert (code, inserted) == (0, [("insmod", str(file))])
    assert "warning: mine.ko: prototypes: it has no type information" in said


def test_what_is_loaded_is_let_be(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place.put("modules/dynamos_mine.ko", b"anything")
    asked = f"insmod {file} factor=2\n"
    monkeypatch.setattr(edition, "_run", lambda *_: asked)
    assert run("load", "mine")[0] == 1
    place.put("sys/module/dynamos_mine/refcnt", b"0")
    assert run("load", "mine")[0] == 0
    # A file may have any name: it is looked into.
    assert run("load", file)[0] == 1
