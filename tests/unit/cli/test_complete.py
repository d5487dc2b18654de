# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion: real bash asks the real program; what zsh and fish would ask is asked for them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dynamosd import status
from dynamosd.cli import main
from dynamosd.cli.words import KINDS
from dynamosd.testing import FakeModule
from tests.unit.cli.program import ROOT, write_program

BASH = """
eval "$(dynamosctl completion bash)" || exit
complete -p dynamosctl
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9
read -ra COMP_WORDS <<<"$LINE"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_python_argcomplete dynamosctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


class Shell:
    """Has ``dynamosctl`` on its path, on a fake module."""

    def __init__(self, module: FakeModule, folder: Path) -> None:
        """Make the program."""
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.program = write_program(module, folder)
        self.environment = {
            "PATH": f"{self.program.parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "LC_ALL": "C",
        }

    def bash(self, line: str) -> list[str]:
        """Press Tab at the end of ``line``; give what bash may put there."""
        done = subprocess.run(
            ["bash", "--norc", "-uc", BASH],
            env={**self.environment, "LINE": line},
            capture_output=True,
            text=True,
            cwd=self.run_dir,
        )
        assert (done.returncode, done.stderr) == (0, "")
        how, *found = done.stdout.splitlines()
        assert shlex.split(how)[-3:] == ["-F", "_python_argcomplete", "dynamosctl"]
        return [each.strip() for each in found if each]

    def ask(self, shell: str, line: str) -> list[str]:
        """Ask as the script of ``shell`` does, through file descriptor 8."""
        asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": shell, "_ARGCOMPLETE_IFS": "\n"}
        asked |= {"_ARGCOMPLETE_DFS": "\t"} if shell == "fish" else {}
        asked |= {"_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
        asked |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": ""}
        done = subprocess.run(
            ["bash", "-c", 'exec "$0" 8>&1 9>&2 1>&2', str(self.program)],
            env={**self.environment, **asked},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0
        return done.stdout.splitlines()


@pytest.fixture
def shell(module: FakeModule, tmp_path: Path) -> Shell:
    """Give one."""
    module.give_parameter("readahead", "random", "window", 64)
    return Shell(module, tmp_path)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("dynamosctl sw", ["switch"]),
        ("dynamosctl edition q", ["quarantine"]),
        ("dynamosctl switch ", ["readahead"]),
        ("dynamosctl switch readahead ", ["original", "random"]),
        ("dynamosctl switch --mode scoped readahead r", ["random"]),
        ("dynamosctl switch readahead random --mode p", ["per-object"]),
        ("dynamosctl switch readahead random --scope sh", ["share:1/"]),
        ("dynamosctl show ", ["readahead"]),
        ("dynamosctl edition unload ", ["readahead/original", "readahead/random"]),
        ("dynamosctl edition set readahead random ", ["window="]),
        ("dynamosctl history --ki", ["--kind"]),
        ("dynamosctl switch readahead random --timeout ", []),
        ("dynamosctl switch bogus ", []),
        ("dynamosctl switch --mode bogus readahead ", []),
    ],
)
def test_bash_is_offered_what_there_is(shell: Shell, line: str, offered: list[str]) -> None:
    assert sorted(shell.bash(line)) == offered


def test_files_are_offered_only_where_files_are_meant(shell: Shell) -> None:
    (shell.run_dir / "policy.yaml").write_text("")
    (shell.run_dir / "folder").mkdir()
    assert sorted(shell.bash("dynamosctl check ")) == ["folder/", "policy.yaml"]
    assert shell.bash("dynamosctl status --runtime-dir ") == ["folder/"]
    assert shell.bash("dynamosctl pause po") == []


def test_names_of_the_daemon_are_offered(shell: Shell) -> None:
    where = f"--runtime-dir {shell.run_dir}"
    assert shell.bash(f"dynamosctl pause {where} ") == []
    policies = [{"name": "storm"}, {"name": "quiet"}]
    said = {"pid": os.getpid(), "policies": policies, "advice": [{"id": "k3vq7a2m"}]}
    status.write(shell.run_dir, said)
    assert sorted(shell.bash(f"dynamosctl pause {where} ")) == ["quiet", "storm"]
    assert sorted(shell.bash(f"dynamosctl explain {where} ")) == ["quiet", "readahead", "storm"]
    assert shell.bash(f"dynamosctl advice mute {where} ") == ["k3vq7a2m"]
    status.write(shell.run_dir, {**said, "policies": "nonsense"})
    assert shell.bash(f"dynamosctl pause {where} ") == []


def test_without_the_module_nothing_is_offered_or_said(shell: Shell, module: FakeModule) -> None:
    module.remove()
    assert shell.bash("dynamosctl switch ") == []
    assert shell.bash("dynamosctl edition set readahead random ") == []
    assert shell.bash("dynamosctl stat") == ["status"]


def test_a_program_that_is_broken_is_not_heard(shell: Shell) -> None:
    intact = shell.program.read_text()
    broken = intact.replace(
        "import sys\n", "import os, sys\n'_ARGCOMPLETE' in os.environ and gone\n"
    )
    shell.program.write_text(broken)
    assert shell.bash("dynamosctl switch ") == []


def test_zsh_and_fish_are_answered_with_explanations(shell: Shell) -> None:
    line = "dynamosctl edition qu"
    text = "keep an edition from being switched to"
    assert shell.ask("zsh", line) == [f"quarantine:{text}"]
    assert shell.ask("fish", line) == [f"quarantine\t{text}"]
    found = [each.partition("\t")[0] for each in shell.ask("fish", "dynamosctl history --kind ")]
    assert found == list(KINDS)


def test_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    scripts = {}
    for name in ("bash", "zsh", "fish"):
        assert main(["completion", name]) == 0
        scripts[name] = capsys.readouterr().out
        if checker := shutil.which(name):
            subprocess.run([checker, "-n"], input=scripts[name], text=True, check=True)
    assert scripts["zsh"].startswith("#compdef dynamosctl\n")
    assert "compdef _python_argcomplete dynamosctl" in scripts["zsh"]
    assert "complete --command dynamosctl -f -a '(__fish_dynamosctl_complete)'" in scripts["fish"]
    assert "COMP_LINE (commandline -p)" in scripts["fish"]


def test_an_answer_waits_for_no_import_that_takes_long() -> None:
    program = (
        "import sys; from dynamosd.cli import complete, make_parser\n"
        "complete._teach(make_parser(), None)\n"
        "slow = {'aiohttp', 'asyncio', 'bcc', 'cel_expr_python', 'pydantic', 'rich', 'yaml'}\n"
        "sys.exit(', '.join(slow & sys.modules.keys()) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
