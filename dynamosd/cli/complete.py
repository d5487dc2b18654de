# SPDX-License-Identifier: GPL-2.0-or-later
"""What a shell offers when Tab is pressed: commands and options, and the names there are now.

The shell runs the program itself for that (argcomplete), at each Tab: nothing here may take long,
and nothing may be said. What cannot be read has no names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import argcomplete
from argcomplete.completers import BaseCompleter, DirectoriesCompleter, FilesCompleter
from argcomplete.shell_integration import shellcode

from dynamosd import status
from dynamosd.cli.output import print_json
from dynamosd.commandline import arguments, commands

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from dynamosd.kmod import Kmod

    Names = Callable[[argparse.Namespace, Kmod], Iterable[str]]

PROGRAM = "dynamosctl"

_SCOPES = ("cpus:", "task:", "cgroup:/", "share:1/", "handler")


def show_script(args: argparse.Namespace, _: Kmod) -> int:
    """Print what a shell has to read once."""
    script = shellcode([PROGRAM], use_defaults=False, shell=args.shell)
    if args.output == "json":
        print_json("Completion", shell=args.shell, script=script)
    else:
        print(script.strip())
    return 0


def answer(parser: argparse.ArgumentParser, kmod: Kmod) -> None:
    """Tell the shell that has asked, and end."""
    try:
        _teach(parser, kmod)
        argcomplete.autocomplete(
            parser, always_complete_options=False, default_completer=_Nothing()
        )
    finally:
        # Whatever went wrong: a person is typing, and this is no time for a traceback.
        os._exit(1)


def _teach(parser: argparse.ArgumentParser, kmod: Kmod) -> None:
    """Let each argument know its completer."""
    for command in commands(parser):
        for action in arguments(command):
            completer = _completer(command, action, kmod)
            if completer and not action.choices:
                action.completer = completer  # type: ignore[attr-defined] # argcomplete's own way


def _completer(
    command: argparse.ArgumentParser, action: argparse.Action, kmod: Kmod
) -> Callable[..., Iterable[str]] | None:
    if action.metavar == "DIR":
        return DirectoriesCompleter()
    if action.type is Path:
        return FilesCompleter()
    names = _OF_COMMAND.get((command.prog.partition(" ")[2], action.dest)) or _NAMES.get(
        action.dest
    )
    if names is None:
        return None
    return lambda parsed_args, **_: list(_quietly(names, parsed_args, kmod))


def _quietly(names: Names, args: argparse.Namespace, kmod: Kmod) -> Iterable[str]:
    """Give no names rather than an error."""
    try:
        return names(args, kmod)
    except Exception:  # noqa: BLE001 - see the top
        return ()


class _Nothing(BaseCompleter):
    """Completes what has no names: not with files, as others would."""

    def __call__(self, **_: object) -> tuple[str, ...]:
        """Give no names."""
        return ()


# ---------------------------------------------------------------------------------------- names


def _subsystems(_: argparse.Namespace, kmod: Kmod) -> Iterable[str]:
    return kmod.read_names()


def _editions(args: argparse.Namespace, kmod: Kmod) -> Iterable[str]:
    return kmod.read_names().get(args.subsystem, ())


def _loaded(_: argparse.Namespace, kmod: Kmod) -> Iterable[str]:
    names = kmod.read_names().items()
    return [f"{subsystem}/{edition}" for subsystem, each in names for edition in each]


def _parameters(args: argparse.Namespace, kmod: Kmod) -> Iterable[str]:
    return [f"{name}=" for name in kmod.read_parameter_names(args.subsystem, args.edition)]


def _shown(args: argparse.Namespace) -> dict[str, Any]:
    folder: Path = args.runtime_dir
    return status.read(folder) or {}


def _policies(args: argparse.Namespace, _: Kmod) -> Iterable[str]:
    return [policy["name"] for policy in _shown(args).get("policies", ())]


def _policies_or_subsystems(args: argparse.Namespace, kmod: Kmod) -> Iterable[str]:
    return [*_policies(args, kmod), *_subsystems(args, kmod)]


def _advice(args: argparse.Namespace, _: Kmod) -> Iterable[str]:
    return [each["id"] for each in _shown(args).get("advice", ())]


def _kinds(_: argparse.Namespace, __: Kmod) -> Iterable[str]:
    from dynamosd.cli.words import KINDS  # noqa: PLC0415 - only this one needs it

    return KINDS


_NAMES: dict[str, Names] = {
    "subsystem": _subsystems,
    "edition": _editions,
    "policy": _policies,
    "id": _advice,
    "kind": _kinds,
    "assignment": _parameters,
    "scope": lambda _, __: _SCOPES,
}
"""What has which names, by an argument's name in the parser."""

_OF_COMMAND: dict[tuple[str, str], Names] = {
    ("explain", "policy"): _policies_or_subsystems,
    ("edition unload", "name"): _loaded,
}
"""The same, where it is otherwise."""
