# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual pages: groff takes them, and nothing of the command lines is missing."""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path

import pytest

from dynamosd import __main__ as daemon
from dynamosd import cli, man
from dynamosd.commandline import arguments, commands, help_of, value_of

PARSERS = {"dynamosctl.1": cli.make_parser, "dynamosd.8": daemon.make_parser}


def shown(text: str) -> str:
    """Give what a reader sees of a page, as far as words go."""
    text = re.sub(r"\\f[BIR]", "", text)
    return text.replace("\\-", "-").replace("\\ ", " ").replace("\\e", "\\").replace("\\&", "")


def section(page: str, name: str) -> str:
    """Give what a page says of a command."""
    found = re.search(
        rf"^\.SS {re.escape(name)}$(.*?)(?=^\.S[HS] )", page, re.MULTILINE | re.DOTALL
    )
    assert found, name
    return found[1]


@pytest.mark.parametrize("name", PARSERS)
def test_page_has_all_commands_and_what_they_take(name: str) -> None:
    page = shown(man.pages()[name])
    before = page.partition(".SH COMMANDS")[0]
    for command in commands(PARSERS[name]()):
        said = section(page, command.prog.partition(" ")[2])
        assert command.prog in said
        for action in arguments(command):
            named = action.option_strings or [value_of(action)]
            for word in named:
                assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", said + before), word
            assert help_of(action) in said + before


def test_page_has_examples_of_commands_in_lines_of_their_own() -> None:
    said = section(shown(man.pages()["dynamosctl.1"]), "edition clear")
    assert "\n.EX\n  dynamosctl edition clear readahead streaming\n.EE\n" in said
    assert "exit codes" not in said


@pytest.mark.parametrize("name", PARSERS)
def test_page_says_what_a_parser_does_not_know(name: str) -> None:
    page = shown(man.pages()[name])
    for title in (
        "NAME",
        "SYNOPSIS",
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
        "SEE ALSO",
    ):
        assert f"\n.SH {title}\n" in page
    for word in ("/dev/dynamos", "/etc/dynamosd/policies.d", "refused by a safety rule"):
        assert word in page


def test_no_line_is_a_request_by_accident() -> None:
    assert "".join(man._prose(".so /etc/passwd")) == ".PP\\&.so /etc/passwd"
    assert man._plain("'a-b\\c é") == "\\&'a\\-b\\ec \\[u00E9]"
    requests = {".ad", ".nh", ".TH", ".SH", ".SS", ".TP", ".PP", ".EX", ".EE", '.\\"'}
    for page in man.pages().values():
        found = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
        assert found <= requests


def test_hidden_options_stay_hidden() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--secret", help=argparse.SUPPRESS)
    assert [each.dest for each in arguments(parser)] == ["help"]


def test_groff_has_nothing_to_complain_of(tmp_path: Path) -> None:
    man.main(tmp_path)
    files = sorted(tmp_path.glob("man*/*"))
    assert [f"{each.parent.name}/{each.name}" for each in files] == [
        *("man1/dynamosctl.1", "man8/dynamosd.8")
    ]
    for file in files:
        done = subprocess.run(
            ["groff", "-ww", "-man", "-Tutf8", "-P-cbou", str(file)], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{file.stem} COMMAND [OPTION ...] [ARGUMENT ...]" in done.stdout
