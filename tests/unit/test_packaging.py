# SPDX-License-Identifier: GPL-2.0-or-later
"""packaging/: systemd takes the unit, which gives the daemon enough, and little."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dynamosd import privileges

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "packaging/dynamosd.service"

EXPOSURE = 25
"""In tenths of what `systemd-analyze security` gives; an ordinary service has 96."""

OF_NO_MAKE = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
"""The environment without what a make that runs the tests tells those that it starts."""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Give the unit as it is installed, with programs that are there."""
    for program in ("dynamosd", "dynamosctl"):
        file = tmp_path / "bin" / program
        file.parent.mkdir(exist_ok=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    made = tmp_path / UNIT.name
    made.write_text(UNIT.read_text().replace("@PREFIX@", str(tmp_path)))
    return made


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze, which CI has."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True)


def test_unit_is_one_that_systemd_takes(unit: Path) -> None:
    done = analyze("verify", "--man=no", "--recursive-errors=no", str(unit))
    assert (done.returncode, unit.name in done.stderr) == (0, False), done.stderr


def test_unit_exposes_little(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(unit))
    assert done.returncode == 0, done.stdout


def settings() -> dict[str, list[str]]:
    """Give the unit's settings; one may stand there more than once."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_unit_keeps_what_the_daemon_counts_on() -> None:
    unit = settings()
    assert unit["Type"] == ["notify"]
    assert unit["ConditionKernelCommandLine"] == ["!dynamos.enable=0"]
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ["CAP_BPF CAP_PERFMON"]
    assert {"WatchdogSec", "StartLimitBurst", "StartLimitIntervalSec"} <= unit.keys()
    assert f"g {unit['Group'][0]} " in (ROOT / "packaging/sysusers.conf").read_text()
    assert f'GROUP="{unit["Group"][0]}"' in (ROOT / "packaging/60-dynamos.rules").read_text()


PROGRAM = """
def effective():
    from pathlib import Path
    lines = Path("/proc/self/status").read_text().splitlines()
    caps = dict(line.split(":\\t") for line in lines if line.startswith("Cap"))
    return " ".join(str(int(caps[name], 16)) for name in ("CapEff", "CapPrm", "CapAmb", "CapInh"))
print(effective())
with in_effect():
    print(effective())
print(effective())
with in_effect():
    print(effective())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give capabilities away")
def test_capabilities_are_in_effect_only_where_they_are_needed() -> None:
    drop = ["setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all,+chown"]
    drop += ["--ambient-caps=-all,+chown", "--bounding-set=-all,+chown"]
    # By its text: who is nobody may not be let into this folder.
    text = Path(privileges.__file__).read_text() + PROGRAM
    command = [*drop, "/usr/bin/python3", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1 1 1 1", "1 1 0 0", "0 1 0 0", "1 1 0 0"]


@pytest.mark.skipif(os.geteuid() != 0, reason="root's stay as they are")
def test_root_keeps_its_own() -> None:
    before = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
    with privileges.in_effect():
        pass
    assert Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0] == before


def test_wrappers_start_what_was_installed(tmp_path: Path) -> None:
    for program in ("dynamosd", "dynamosctl"):
        wrapper = tmp_path / program
        text = (ROOT / "packaging" / program).read_text()
        wrapper.write_text(text.replace("@PYTHON_FOLDER@", str(ROOT)))
        done = subprocess.run(
            [sys.executable, str(wrapper), "--help"], capture_output=True, text=True, cwd="/"
        )
        assert done.returncode == 0, done.stderr
        assert f"usage: {program}" in done.stdout


@pytest.mark.parametrize("prefix", ["/usr", "/usr/local"])
def test_what_was_installed_is_taken_away_again(tmp_path: Path, prefix: str) -> None:
    """All but the Python packages, which pip would fetch, and which have a folder of ours."""

    def make(target: str) -> list[str]:
        where = [f"DESTDIR={tmp_path}", f"PREFIX={prefix}", "PIP=true", f"PY={sys.executable}"]
        argv = ["make", "-s", "-C", str(ROOT), "-o", "setup", target, *where]
        subprocess.run(argv, check=True, capture_output=True, env=OF_NO_MAKE)
        return [path.name for path in tmp_path.rglob("*") if not path.is_dir()]

    (tmp_path / "etc/dynamosd").mkdir(parents=True)
    (tmp_path / "etc/dynamosd/dynamosd.yaml").write_text("")
    installed = make("install")
    assert {"dynamosctl", "dynamosctl.1", "dynamosd.service", "install.md"} <= set(installed)
    assert len(installed) > 20
    assert make("uninstall") == ["dynamosd.yaml"]
