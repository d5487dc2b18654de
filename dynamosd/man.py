# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual pages: ``python -m dynamosd.man FOLDER`` writes them.

Commands, options and their examples come from the parsers that read the command lines, so that a
page cannot say anything else. What a parser does not know (files, environment, signals) is here.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dynamosd import __main__ as daemon
from dynamosd import __version__, cli
from dynamosd.commandline import (
    EXIT_CODES,
    arguments,
    commands,
    exit_codes,
    help_of,
    value_of,
)
from dynamosd.config import FILE, METRICS_ADDRESS, POLICIES, VENDOR_POLICIES
from dynamosd.journal import PATH as JOURNAL
from dynamosd.kmod import DEVICE, SETTINGS, SYSFS
from dynamosd.status import RUNTIME_DIR

Texts = Mapping[str, str]

_WARNINGS = 3
"""The exit code that the daemon has not."""

_FILES = {
    str(SYSFS): "what the kernel module shows",
    str(DEVICE): 'takes commands and gives events: echo "switch SUBSYSTEM original" > /dev/dynamos '
    "rescues a machine with no program of ours",
    f"{SETTINGS}/enable": "0: all subsystems go to original, and stay there",
    f"{daemon.CONFIG}/{FILE}": "the daemon's settings; need not be there",
    f"{daemon.CONFIG}/{POLICIES}/*.yaml": "policies",
    f"{VENDOR_POLICIES}/*.yaml": "the vendor's policies, for which there is none of the same name "
    "in the folder above",
    str(JOURNAL): "the journal: every decision that changes something, and every refusal",
    f"{RUNTIME_DIR}/status.json": "the status of the daemon that runs",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the manual; ``more`` are its last sections, each with entries."""

    section: int
    title: str
    parser: Callable[[], argparse.ArgumentParser]
    text: str
    codes: Mapping[int, str]
    examples: Texts
    more: Mapping[str, Texts]
    also: str


PAGES = (
    Page(
        section=1,
        title="shows and switches editions of kernel functions",
        parser=cli.make_parser,
        text="A running kernel keeps several editions of its functions; the active edition of a "
        "subsystem is the one that new calls get. dynamosctl shows what is active and why, "
        "switches it by hand, and tells the daemon what to leave alone. Most commands need no "
        "daemon; to change something, one has to be root or in the group dynamos.",
        codes=EXIT_CODES,
        examples={
            "dynamosctl status": "what is active, and why",
            "dynamosctl rollback readahead": "back to the kernel's own code, and held there",
            "dynamosctl undo": "what still holds, as commands that take it back",
            'dynamosctl pause --for 30m --reason "disk is being replaced"': "hands off, all "
            "policies",
            "dynamosctl history --since 1h": "what happened in the last hour",
        },
        more={
            "ENVIRONMENT": {
                "COLUMNS": "how wide lines may be; otherwise as wide as the terminal",
                "NO_COLOR": "when it is not empty, nothing is coloured",
                "TERM": "dumb: nothing is coloured",
            },
            "FILES": _FILES,
        },
        also="dynamosd(8)",
    ),
    Page(
        section=8,
        title="switches editions of kernel functions, by measurement and policy",
        parser=daemon.make_parser,
        text="The daemon measures what the gated functions of a kernel are called for, evaluates "
        "the policies, and has the kernel module switch. When it is stopped, subsystems go back "
        "to their baseline, unless a policy says otherwise; when it is killed or hangs, the "
        f"kernel module does that. Metrics and a read-only API are at http://{METRICS_ADDRESS}.",
        codes={code: text for code, text in EXIT_CODES.items() if code != _WARNINGS},
        examples={"dynamosd run --config policies": "in the foreground, with policies of a folder"},
        more={
            "SIGNALS": {
                "SIGTERM, SIGINT": "leave, as the policies say in onExit",
                "SIGHUP": "read the policies again, all or nothing; dynamosctl reload does that "
                "and waits for the answer",
            },
            "ENVIRONMENT": {
                "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID": "as systemd sets them: where it "
                "hears how the daemon is, and how often it wants to",
                "JOURNAL_STREAM": "set by systemd: records also go to its journal, with fields",
            },
            "FILES": _FILES,
        },
        also="dynamosctl(1), journalctl(1), systemctl(1)",
    ),
)


# --------------------------------------------------------------------------------------- a page


def pages() -> dict[str, str]:
    """Give all pages by the names of their files."""
    made = {f"{page.parser().prog}.{page.section}": page for page in PAGES}
    return {name: "".join(f"{line}\n" for line in _lines(page)) for name, page in made.items()}


def _lines(page: Page) -> Iterator[str]:
    parser = page.parser()
    name = parser.prog
    below = list(commands(parser))
    shared = _shared(below)
    yield '.\\" SPDX-License-Identifier: GPL-2.0-or-later'
    yield f'.TH {name.upper()} {page.section} "" "dynamosd {__version__}"'
    yield from (".ad l", ".nh")
    yield from _section("NAME", [f"{_plain(name)} \\- {_plain(page.title)}"])
    yield from _section(
        "SYNOPSIS", _synopsis(f"{name} COMMAND", [], ["[OPTION ...] [ARGUMENT ...]"])
    )
    yield from _section("DESCRIPTION", [_plain(page.text)])
    yield ".SH OPTIONS"
    yield from _entries(_options(arguments(parser)))
    if shared:
        yield from (".PP", "Every command takes:")
        yield from _entries(_options(shared.values()))
    yield ".SH COMMANDS"
    for command in below:
        yield from _command(command, shared)
    yield from _section("EXIT STATUS", [])
    yield from _entries({str(code): text for code, text in page.codes.items()})
    for title, entries in page.more.items():
        yield from _section(title, [])
        yield from _entries(entries)
    yield ".SH EXAMPLES"
    for command_line, text in page.examples.items():
        yield from _entries({command_line: text})
    yield from _section("SEE ALSO", [_plain(page.also)])


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f".SH {title}"
    yield from lines


def _shared(below: Iterable[argparse.ArgumentParser]) -> dict[str, argparse.Action]:
    """Give the options that all commands have, by their names."""
    first, *others = [{_named(each): each for each in arguments(command)} for command in below]
    return {
        name: action
        for name, action in first.items()
        if others and action.option_strings and all(name in each for each in others)
    }


def _named(action: argparse.Action) -> str:
    return ", ".join(action.option_strings) or value_of(action)


def _command(parser: argparse.ArgumentParser, shared: Mapping[str, object]) -> Iterator[str]:
    own = [each for each in arguments(parser) if _named(each) not in shared]
    _, _, name = parser.prog.partition(" ")
    yield f".SS {_plain(name)}"
    yield from _synopsis(
        parser.prog,
        [each for each in own if each.option_strings],
        [_positional(each) for each in own if not each.option_strings],
    )
    yield ".PP"
    yield _plain(_sentence(parser.description or ""))
    yield from _entries(_options(own))
    yield from _prose((parser.epilog or "").replace(exit_codes(), ""))


def _synopsis(
    words: str, options: Iterable[argparse.Action], values: Iterable[str]
) -> Iterator[str]:
    parts = [f"\\fB{_plain(words)}\\fR"]
    for each in options:
        name, value = _plain(each.option_strings[0]), _plain(value_of(each))
        parts.append(f"[\\fB{name}\\fR\\ \\fI{value}\\fR]" if value else f"[\\fB{name}\\fR]")
    yield " ".join([*parts, *(_plain(value) for value in values)])


def _positional(action: argparse.Action) -> str:
    """Give an argument as a synopsis has it."""
    value = value_of(action)
    return {"?": f"[{value}]", "+": f"{value} ..."}.get(str(action.nargs), value)


def _options(actions: Iterable[argparse.Action]) -> dict[str, str]:
    found = {}
    for action in actions:
        value = value_of(action) if action.option_strings else ""
        text = help_of(action)
        if action.option_strings or text:
            found[f"{_named(action)} {value}".strip()] = text
    return found


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


# ---------------------------------------------------------------------------------------- groff


def _plain(text: str) -> str:
    """Have groff show ``text`` as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return re.sub(r"^(?=[.'])", "\\\\&", text, flags=re.MULTILINE)


def _entries(entries: Mapping[str, str]) -> Iterator[str]:
    """Give terms, each with what it means below it."""
    for term, text in entries.items():
        yield ".TP"
        yield f"\\fB{_plain(term)}\\fR"
        yield _plain(text)


def _prose(text: str) -> Iterator[str]:
    """Give paragraphs of ``--help``; what is indented there has lines of its own."""
    for paragraph in filter(None, map(str.rstrip, text.split("\n\n"))):
        yield ".PP"
        shown = False
        for line in paragraph.strip("\n").splitlines():
            if line.startswith("  ") is not shown:
                yield ".EE" if shown else ".EX"
                shown = not shown
            yield _plain(line)
        if shown:
            yield ".EE"


def main(folder: Path) -> None:
    """Write all pages, each into the folder of its section."""
    for name, text in pages().items():
        path = folder / f"man{name.rpartition('.')[2]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
