# SPDX-License-Identifier: GPL-2.0-or-later
"""How the programs read their command lines; what a parser knows, for manual and shells."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping
from typing import NoReturn

from dynamosd.errors import UsageError

EXIT_CODES = {
    0: "ok",
    1: "failed or invalid",
    2: "usage",
    3: "valid with warnings",
    4: "not supported here",
    5: "daemon or module not reachable",
    6: "refused by a safety rule",
}
"""What the programs end with. They do not change."""

_WIDTH = 80


class Parser(argparse.ArgumentParser):
    """Complains in the same form as everything else, and guesses which word was meant."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`."""
        raise UsageError(message, hint=f"see: {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is None or value in action.choices:
            return
        # Only a wrong word needs it, and it costs start-up time.
        import difflib  # noqa: PLC0415

        known = [str(each) for each in action.choices]
        near = difflib.get_close_matches(str(value), known, n=1)
        if _is_command(action):
            said, hint = f"there is no command {value}", f"commands here: {', '.join(known)}"
        else:
            names = "/".join(action.option_strings) or action.dest
            said, hint = f'{names}: "{value}" is none of: {", ".join(known)}', ""
        hint = f"did you mean {near[0]}?" if near else hint
        raise UsageError(said, hint=hint or f"see: {self.prog} --help")


def _is_command(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)  # noqa: SLF001 - as below


def exit_codes() -> str:
    """Give the exit codes as a paragraph of ``--help``."""
    codes = ", ".join(f"{code} {text}" for code, text in EXIT_CODES.items())
    return textwrap.fill(f"exit codes: {codes}", _WIDTH)


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Give the parsers of all commands, or the only one if there are none."""
    below = _below(parser)
    if not below:
        yield parser
    for each in below.values():
        yield from commands(each)


def _below(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            found |= action.choices
    return found


def arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Give what a command takes, its own commands left out."""
    return [
        action
        for action in parser._actions  # noqa: SLF001 - as above
        if not isinstance(action, argparse._SubParsersAction)  # noqa: SLF001 - as above
        and action.help != argparse.SUPPRESS
    ]


def value_of(action: argparse.Action) -> str:
    """Give the name of what an argument takes; "" for an option that takes nothing."""
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper().replace("_", "-")


def help_of(action: argparse.Action) -> str:
    """Give the help of an argument, with its default put in."""
    return (action.help or "") % vars(action)
