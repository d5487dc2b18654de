# SPDX-License-Identifier: GPL-2.0-or-later
"""``dynamosctl``: everything a person types.

``status`` and ``switch`` are what one reaches for when a machine is in trouble: they need no
daemon, and whatever takes time to import is imported by the commands that need it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd import __version__
from dynamosd.commandline import Parser as _Parser
from dynamosd.commandline import exit_codes
from dynamosd.console import run_program
from dynamosd.kmod import Kmod
from dynamosd.status import RUNTIME_DIR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[[argparse.Namespace, Kmod], int]

PROGRAM = "dynamosctl"

ASKED = "_ARGCOMPLETE"
"""A variable of the environment: a shell wants to know what may come next on its line."""

EXIT_CODES = exit_codes()

TROUBLE_HELP = """\
in trouble:
  dynamosctl rollback --all   back to the kernel's own code, and stay there
  dynamosctl status           what is active, and why
  dynamosctl verify           what is not as it should be
  dynamosctl undo             what still holds, as commands that take it back
"""

SWITCH_HELP = """\
modes, each only where both editions allow it (dynamosctl edition list):
  concurrent   new calls get the edition; calls that run end where they are
  exclusive    new callers wait until nobody is inside, or until the timeout:
               then nothing has changed
  per-object   an object changes when no call is about it, a new one at once
  scoped       only the calls of --scope get the edition
--scope and --objects say which mode is meant: it need not be given as well.

examples:
  dynamosctl switch readahead random
  dynamosctl switch readahead random --mode exclusive --timeout 500ms
  dynamosctl switch readahead random --scope cgroup:/system.slice
  dynamosctl switch readahead random --scope share:1/100
  dynamosctl switch readahead random     # random is partial: now for all calls
  dynamosctl switch readahead original   # original is active: now for all again
"""

QUARANTINE_HELP = """\
If calls get the edition now, its subsystem is switched to original first. The
kernel module does the same of itself when a thread faults inside an edition.

example:
  dynamosctl edition quarantine readahead streaming
  dynamosctl edition clear readahead streaming
"""

CLEAR_HELP = """\
Ends the kernel module's quarantine, after a fault or by hand, and the daemon's,
after a breach of a policy's guardrail (docs/policy.md), if a daemon is running.
A breach still counts: the next quarantine is twice as long.

example:
  dynamosctl edition clear readahead streaming
"""

SET_HELP = """\
example:
  dynamosctl edition set readahead streaming window=64
"""


INSPECT_HELP = """\
Reads the running kernel, and attaches nothing: whether the function can be
gated and why not, its prototype, how it begins, who holds its entry, what calls
it, whether it loops or sleeps, and what its gate counts, if it has one. It
needs root. What must not be gated only the kernel module knows: load it first
(modprobe dynamos).

Exits with 0 when the function can be gated, with 6 when a safety rule forbids
it, with 1 when it cannot be for another reason or there is none of that name,
with 4 when something could not be read here, and with 3 when nothing speaks
against it but the kernel module could not be asked.

examples:
  dynamosctl edition inspect vfs_read
  dynamosctl edition inspect overlay:ovl_read_iter -o json | jq .prototypes
"""

EDITION_CHECK_HELP = """\
Looks at a kernel module's file, and loads nothing: whether the kernel would
take it, whether what it needs is there and the same, which edition it is,
whether its functions have the kernel's prototypes, whether it may be switched
to in the modes that it declares, and what its code does that an edition must
not. A line for each check. What must not be gated only the kernel module knows,
if it is loaded.

Exits with 0 when all is well, with 3 when there are warnings, with 1 when
something is wrong, and with 6 when a safety rule speaks against it. What fails
here, "edition load" does not load.

examples:
  dynamosctl edition check ./dynamos_pipe_mine.ko
  dynamosctl edition check mine.ko --kernel 6.12.95+deb12-amd64 -o json
"""

EDITION_LOAD_HELP = """\
Checks the module first, as "edition check" does, and with it those that are
loaded for it; what fails is not loaded, and why is told. Gates come with a
subsystem's first edition; what is active stays active.

examples:
  dynamosctl edition load readahead/random
  dynamosctl edition load ./dynamos_pipe_mine.ko
"""

TEST_HELP = """\
A test file has made-up series of signals, and what the policy must decide when:
the format is in docs/policy.md. Neither daemon nor kernel module is needed.

example:
  dynamosctl test policies/tests/readahead.yaml
"""


RECORD_HELP = """\
The daemon records what its policies see and decide, for as long as its settings
say (recording, in dynamosd.yaml). This keeps what there is of that.

example:
  dynamosctl record /tmp/before-the-change.jsonl.zst
"""

REPLAY_HELP = """\
Shows each switch with its reason, the time in each edition, and flaps. A policy
that the daemon ran when it recorded must decide the same again: if it does not,
the exit code is 1. Any other one is played as if it had enforced.

examples:
  dynamosctl replay policies/readahead.yaml /var/lib/dynamosd/recordings
  dynamosctl replay old.yaml day.jsonl.zst --against new.yaml
"""


PAUSE_HELP = """\
A policy that is paused measures and decides, and makes no switch, not even the
one that its onExit asks for. It still leaves an edition that is put in
quarantine. A reload or a restart of the daemon does not end a pause. With
neither POLICY nor --subsystem, all policies are paused.

examples:
  dynamosctl pause readahead --for 30m --reason "disk is being replaced"
  dynamosctl pause --subsystem readahead
  dynamosctl resume readahead
"""

RESUME_HELP = """\
With neither POLICY nor --subsystem, all pauses end.

examples:
  dynamosctl resume readahead
  dynamosctl resume
"""

PIN_HELP = """\
The subsystem is switched to the edition, and stays there against all policies,
over a reload and a restart of the daemon. An edition that a guardrail or the
kernel module puts in quarantine is left all the same: its pin is over then. Pin
it again to change edition, time or reason. Exit code 1: it is pinned, and not
there yet; the daemon goes on trying.

examples:
  dynamosctl pin readahead random --for 2h --reason "comparing"
  dynamosctl unpin readahead
"""

UNPIN_HELP = """\
The subsystem stays as it is until a policy decides otherwise, which may be at
once.

example:
  dynamosctl unpin readahead
"""

ROLLBACK_HELP = """\
Switches to the original edition and pins it there. Where no daemon answers, it
switches directly, and says that nothing holds it there. A pin to original that
lasts longer goes on.

examples:
  dynamosctl rollback readahead
  dynamosctl rollback --all --for 8h --reason "until morning"
"""

UNDO_HELP = """\
Prints the command that takes it back for each thing that holds and that differs
from an untouched machine: pins, other editions than the original, muted advice,
quarantines, pauses. Does nothing: read it, then run what you want of it. What an
enforcing policy has switched it may switch again.

examples:
  dynamosctl undo
  dynamosctl undo | sh -x
"""

ADVICE_HELP = """\
A policy in mode advise that would switch gives an advice. Its id is the same
each time that the same rule wants the same switch. To accept it is to switch by
hand: once, and for good. The policy then may advise the way back.

examples:
  dynamosctl advice list
  dynamosctl advice accept k3vq7a2m
  dynamosctl advice mute k3vq7a2m --for 7d
"""


HISTORY_HELP = """\
The journal is that of the daemon that runs; where none runs, the usual one. Old
journals (FILE.1 and so on) are read too. A record that came again and again is
one row, which says how often. TIME is UTC, as 2026-01-31T12:00:00Z, or how long
ago: 2h. With --subsystem there are also the records of its policies, and pauses
of all policies.

-o json gives JSON Lines, one record a line as the journal has it (the keys are
in docs/operations.md), so that jq gets them as they come, and -f works too.

examples:
  dynamosctl history --kind switch lease --since 2h
  dynamosctl history --subsystem readahead -n 0
  dynamosctl history -f -o json | jq -c 'select(.result == "refused")'
"""


SHOW_HELP = """\
Editions with their modules, modes, parameters and counts; functions and their
gates; the lease; what each policy has decided and why; open advice. Since when
the active edition is active, and by whom, is in the journal. Without a daemon
it shows the rest, and says what is not known.

example:
  dynamosctl show readahead
"""


VERIFY_HELP = """\
Compares what the daemon wants and what the module says with the kernel itself:
the active edition, gates at the functions' entries, editions and their modules,
quarantine, leases, counts of calls in flight, and whether the daemon is well.
What differs is looked at for three seconds before it is told. The entries of
functions are for root to see.

Exits with 0 when all agrees, with 1 when something differs, also for a reason
such as a pause, and with 3 when nothing does but not all could be seen.

example:
  dynamosctl verify readahead
"""


TOP_HELP = """\
Where there is no terminal, and with -b, it is plain text, and the first look is
after a delay: figures are of the time between two looks. -o json gives one
document a line.

Neither daemon nor root is needed. What the daemon says is then missing: how
policies stand, and since when editions are active, unless it was seen.
Draining are threads in editions that no new call gets.

keys:
{keys}

examples:
  dynamosctl top --sort in-flight
  dynamosctl top -b -n 1 --editions
  dynamosctl top -d 10 -o json | jq -c '.subsystems[] | [.name, .calls_per_second]'
"""


COMPLETION_HELP = """\
Then Tab completes commands, options, and the names of subsystems, editions,
policies and advice that there are now. `make install` puts these scripts where
the shells look for them.

examples:
  eval "$(dynamosctl completion bash)"        # in ~/.bashrc
  eval "$(dynamosctl completion zsh)"         # in ~/.zshrc, after compinit
  dynamosctl completion fish | source         # in ~/.config/fish/config.fish
"""


def main(argv: Sequence[str] | None = None, kmod: Kmod | None = None) -> int:
    """Run one command; give its exit code. Other files than the module's own are for tests."""
    argv = sys.argv[1:] if argv is None else argv
    if ASKED in os.environ:
        from dynamosd.cli import complete  # noqa: PLC0415 - see the top

        complete.answer(make_parser(), kmod or Kmod())
    # Looked up before parsing: a command line that cannot be parsed still says what it wants.
    as_json = "json" in argv or any(word in {"-ojson", "--output=json"} for word in argv)
    return run_program(PROGRAM, lambda: _run(argv, kmod or Kmod()), as_json=as_json)


def _run(argv: Sequence[str], kmod: Kmod) -> int:
    args = make_parser().parse_args(argv)
    command: Command = args.command
    return command(args, kmod)


def make_parser() -> argparse.ArgumentParser:
    """Give what reads the command line."""
    parser = _Parser(
        prog=PROGRAM,
        description=_first_line(),
        epilog=f"{TROUBLE_HELP}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _add_kernel(commands)
    _add_show(commands)
    _add_top(commands)
    _add_check(commands)
    _add_test(commands)
    _add_replay(commands)
    _add_explain(commands)
    _add_history(commands)
    _add_reload(commands)
    _add_pause(commands)
    _add_pin(commands)
    _add_undo(commands)
    _add_advice(commands)
    _add_edition(commands)
    _add_verify(commands)
    _add_doctor(commands)
    _add_completion(commands)
    return parser


def _first_line() -> str:
    return "Shows and switches editions of kernel functions."


_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


def _add(
    commands: _Commands[_Parser], name: str, text: str, command: Command, more: str = ""
) -> _Parser:
    """Add a command; every one can answer in JSON. ``more`` is shown below its options."""
    parser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"{more}\n{EXIT_CODES}" if more else EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="form of the answer"
    )
    parser.set_defaults(command=command)
    return parser


def _add_pair(parser: _Parser) -> None:
    """Let a command be about an edition of a subsystem."""
    parser.add_argument("subsystem", metavar="SUBSYSTEM")
    parser.add_argument("edition", metavar="EDITION")


def _add_runtime_dir(parser: _Parser) -> None:
    parser.add_argument(
        "--runtime-dir",
        metavar="DIR",
        type=Path,
        default=RUNTIME_DIR,
        help="the daemon's (%(default)s)",
    )


def _add_kernel(commands: _Commands[_Parser]) -> None:
    from dynamosd.cli import arguments, kernel  # noqa: PLC0415 - see the top
    from dynamosd.policy import scopes  # noqa: PLC0415 - see the top

    _add_runtime_dir(_add(commands, "status", "what is active, and why", kernel.show_status))
    _add(commands, "list", "subsystems, functions, editions, counters", kernel.show_list)
    _add(commands, "version", "versions of program and module", kernel.show_version)
    text = "make an edition the active one, or give it a part of the calls"
    switch = _add(commands, "switch", text, kernel.switch, SWITCH_HELP)
    _add_pair(switch)
    switch.add_argument(
        "--mode", choices=arguments.MODES, help="how; otherwise the module takes a mode that fits"
    )
    switch.add_argument(
        "--timeout",
        metavar="TIME",
        type=arguments.timeout,
        help="exclusive: for how long callers may be held, such as 500ms (1s)",
    )
    switch.add_argument(
        "--scope", type=arguments.scope, help=f"scoped: which calls: {scopes.FORMS}"
    )
    switch.add_argument(
        "--objects",
        choices=arguments.OBJECTS,
        help="per-object: what becomes of objects that exist (migrate)",
    )
    _add_runtime_dir(switch)


def _add_show(commands: _Commands[_Parser]) -> None:
    def show(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.show import show_subsystem  # noqa: PLC0415 - see the top

        return show_subsystem(args, kmod)

    parser = _add(commands, "show", "all that is known of one subsystem", show, SHOW_HELP)
    parser.add_argument("subsystem", metavar="SUBSYSTEM")
    _add_journal(parser)
    _add_runtime_dir(parser)


def _add_top(commands: _Commands[_Parser]) -> None:
    def top(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.top import show_top  # noqa: PLC0415 - see the top

        return show_top(args, kmod)

    from dynamosd.cli import arguments  # noqa: PLC0415 - see the top

    text = "calls a second, in flight, draining, as they are now and go on"
    keys = "\n".join(f"  {names:<9}{what}" for names, what in arguments.TOP_KEYS)
    parser = _add(commands, "top", text, top, TOP_HELP.replace("{keys}", keys))
    parser.add_argument(
        "-d",
        "--delay",
        metavar="TIME",
        type=arguments.delay,
        default="2s",
        help="how long between two looks: 0.5 or 500ms (%(default)s)",
    )
    parser.add_argument(
        "-n",
        dest="count",
        metavar="COUNT",
        type=arguments.count,
        default=0,
        help="how many looks; 0: until it is left (%(default)s)",
    )
    parser.add_argument(
        "-b", "--batch", action="store_true", help="plain text, one look below the other"
    )
    parser.add_argument(
        "--sort", choices=arguments.TOP_ORDERS, default="calls", help="by what (%(default)s)"
    )
    parser.add_argument("-r", "--reverse", action="store_true", help="sort the other way round")
    parser.add_argument(
        "--filter", metavar="TEXT", default="", help="only what has it in a name or a policy"
    )
    parser.add_argument(
        "-e", "--editions", action="store_true", help="a row for each edition of each function"
    )
    _add_runtime_dir(parser)


def _add_journal(parser: _Parser) -> None:
    parser.add_argument("--journal", metavar="FILE", type=Path, help="another journal")


def _add_check(commands: _Commands[_Parser]) -> None:
    def check(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.check import check_policies  # noqa: PLC0415 - imports take long

        return check_policies(args, kmod)

    parser = _add(commands, "check", "check policy files", check)
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="file or folder")
    parser.add_argument(
        "--offline", action="store_true", help="do not look which names the module has"
    )
    parser.add_argument(
        "--config",
        metavar="DIR",
        type=Path,
        help="the daemon's settings, for the labels of the host (PATH, if it is one folder)",
    )
    parser.add_argument(
        "--format",
        choices=("text", "github"),
        default="text",
        help="github: as annotations of a workflow (text)",
    )


def _add_test(commands: _Commands[_Parser]) -> None:
    def test(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.test import test_policies  # noqa: PLC0415 - imports take long

        return test_policies(args, kmod)

    parser = _add(commands, "test", "run tests of policies", test, TEST_HELP)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a test file")


def _add_replay(commands: _Commands[_Parser]) -> None:
    def record(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli import replay  # noqa: PLC0415 - imports take long

        return replay.record(args, kmod)

    def replay(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.replay import replay_policy  # noqa: PLC0415 - imports take long

        return replay_policy(args, kmod)

    from dynamosd.cli import arguments  # noqa: PLC0415 - see the top

    text = "write what the daemon has recorded into one file"
    parser = _add(commands, "record", text, record, RECORD_HELP)
    parser.add_argument("file", metavar="FILE", type=Path, help="the file to be made")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="DIR",
        type=Path,
        help="recordings of a daemon that is gone",
    )
    _add_runtime_dir(parser)
    parser = _add(commands, "replay", "play a policy over a recording", replay, REPLAY_HELP)
    parser.add_argument("policy", metavar="POLICY", type=Path, help="a policy file")
    parser.add_argument("recording", metavar="RECORDING", type=Path, help="a file, or their folder")
    parser.add_argument("--against", metavar="POLICY2", type=Path, help="another policy to compare")
    parser.add_argument("--plot", metavar="OUT.svg", type=Path, help="draw it too, as SVG")
    parser.add_argument(
        "--flap",
        metavar="TIME",
        type=arguments.duration,
        default="1m",
        help="a switch back within this time is a flap (%(default)s)",
    )


def _add_explain(commands: _Commands[_Parser]) -> None:
    def explain(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.explain import explain_policies  # noqa: PLC0415 - imports take long

        return explain_policies(args, kmod)

    text = "why an edition is active, and what each rule needs to change that"
    parser = _add(commands, "explain", text, explain)
    parser.add_argument(
        "policy", metavar="NAME", nargs="?", help="a policy or a subsystem; otherwise all"
    )
    _add_runtime_dir(parser)


def _add_history(commands: _Commands[_Parser]) -> None:
    def history(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.history import show_history  # noqa: PLC0415 - see the top

        return show_history(args, kmod)

    from dynamosd.cli import arguments  # noqa: PLC0415 - see the top

    text = "what happened and why: the daemon's journal, the newest last"
    parser = _add(commands, "history", text, history, HISTORY_HELP)
    parser.add_argument("--subsystem", metavar="NAME", help="only what is about a subsystem")
    parser.add_argument("--policy", metavar="NAME", help="only what is about a policy")
    parser.add_argument(
        "--kind", metavar="KIND", nargs="+", action="extend", help="only these kinds of records"
    )
    for name, what in (("--since", "nothing older"), ("--until", "nothing newer")):
        parser.add_argument(name, metavar="TIME", type=arguments.moment, help=what)
    parser.add_argument(
        "-n",
        dest="count",
        metavar="COUNT",
        type=arguments.count,
        default=50,
        help="how many of the last ones; 0: all (%(default)s)",
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what comes, until Ctrl-C"
    )
    _add_journal(parser)
    _add_runtime_dir(parser)


def _add_reload(commands: _Commands[_Parser]) -> None:
    def reload(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.reload import reload_policies  # noqa: PLC0415 - see the top

        return reload_policies(args, kmod)

    text = "have the daemon read its policies again, all or nothing"
    parser = _add(commands, "reload", text, reload)
    _add_timeout(parser)
    _add_runtime_dir(parser)


def _add_timeout(parser: _Parser, default: str = "30s") -> None:
    from dynamosd.cli import arguments  # noqa: PLC0415 - see the top

    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=arguments.stretch,
        default=default,
        help="how long to wait for the daemon's answer (%(default)s)",
    )


def _add_for(parser: _Parser, text: str, default: str | None = None) -> None:
    from dynamosd.cli import arguments  # noqa: PLC0415 - see the top

    parser.add_argument(
        "--for", dest="for_", metavar="TIME", type=arguments.stretch, default=default, help=text
    )


def _add_pause(commands: _Commands[_Parser]) -> None:
    from dynamosd.cli import request  # noqa: PLC0415 - see the top

    text = "have policies make no switch"
    pause = _add(commands, "pause", text, request.pause, PAUSE_HELP)
    resume = _add(commands, "resume", "end a pause", request.resume, RESUME_HELP)
    for parser in (pause, resume):
        parser.add_argument("policy", metavar="POLICY", nargs="?", help="a policy's name")
        parser.add_argument("--subsystem", metavar="NAME", help="all policies of a subsystem")
    _add_for(pause, "for how long, such as 30m (1h)")
    pause.add_argument("--reason", metavar="TEXT", default="", help="shown wherever the pause is")
    for parser in (pause, resume):
        _add_timeout(parser)
        _add_runtime_dir(parser)


def _add_pin(commands: _Commands[_Parser]) -> None:
    from dynamosd.cli import pin  # noqa: PLC0415 - see the top

    text = "hold a subsystem at an edition, whatever policies want"
    held = _add(commands, "pin", text, pin.pin, PIN_HELP)
    _add_pair(held)
    _add_for(held, "for how long, such as 2h; otherwise until unpin")
    text = "bring a subsystem back to original, and hold it there"
    back = _add(commands, "rollback", text, pin.rollback, ROLLBACK_HELP)
    back.add_argument("subsystem", metavar="SUBSYSTEM", nargs="?")
    back.add_argument("--all", action="store_true", help="all subsystems")
    _add_for(back, "for how long it is held (%(default)s)", default="1h")
    text = "leave a subsystem to its policies again"
    ended = _add(commands, "unpin", text, pin.unpin, UNPIN_HELP)
    ended.add_argument("subsystem", metavar="SUBSYSTEM")
    for parser in (held, back):
        parser.add_argument("--reason", metavar="TEXT", default="", help="shown wherever it is")
    _add_timeout(back, default="10s")
    for parser in (held, ended):
        _add_timeout(parser)
    for parser in (held, back, ended):
        _add_runtime_dir(parser)


def _add_undo(commands: _Commands[_Parser]) -> None:
    def undo(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.undo import show_undo  # noqa: PLC0415 - see the top

        return show_undo(args, kmod)

    text = "what still holds, as commands that take it back; does nothing itself"
    _add_runtime_dir(_add(commands, "undo", text, undo, UNDO_HELP))


def _add_advice(commands: _Commands[_Parser]) -> None:
    from dynamosd.cli import request  # noqa: PLC0415 - see the top

    text = "what policies in mode advise would do: list, accept, mute"
    parser = commands.add_parser(
        "advice",
        help=text,
        description=text,
        epilog=f"{ADVICE_HELP}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    listed = _add(below, "list", "advice that is open or has been accepted", request.show_advice)
    listed.add_argument(
        "--all", action="store_true", help="also what is muted, or does not hold any more"
    )
    _add_runtime_dir(listed)
    accept = _add(below, "accept", "make the switch, once", request.accept, ADVICE_HELP)
    mute = _add(below, "mute", "do not tell of it any more", request.mute, ADVICE_HELP)
    unmute = _add(below, "unmute", "tell of it again", request.unmute)
    for each in (accept, mute, unmute):
        each.add_argument("id", metavar="ID", help="as advice list shows it")
    _add_for(mute, "for how long, such as 7d; otherwise for good")
    for each in (accept, mute, unmute):
        _add_timeout(each)
        _add_runtime_dir(each)


def _inspect(args: argparse.Namespace, kmod: Kmod) -> int:
    from dynamosd.cli.inspect import show_inspection  # noqa: PLC0415 - imports take long

    return show_inspection(args, kmod)


def _check_edition(args: argparse.Namespace, kmod: Kmod) -> int:
    from dynamosd.cli.edition_check import show_check  # noqa: PLC0415 - imports take long

    return show_check(args, kmod)


def _add_edition(commands: _Commands[_Parser]) -> None:
    from dynamosd.cli import arguments, edition  # noqa: PLC0415 - see the top

    text = "inspect functions; check, list, load, tune, quarantine editions; see who is inside"
    parser = commands.add_parser("edition", help=text, description=text, epilog=EXIT_CODES)
    below = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _add(below, "list", "editions, their states and modules", edition.show_editions)
    text = "check an edition's module, then load it; never switches"
    load = _add(below, "load", text, edition.load, EDITION_LOAD_HELP)
    load.add_argument("name", metavar="NAME", help=edition.NAME_HELP)
    unload = _add(below, "unload", "unload an edition's module", edition.unload)
    unload.add_argument("name", metavar="NAME", help=edition.NAME_HELP)
    tune = _add(below, "set", "change a parameter of an edition", edition.set_parameter, SET_HELP)
    _add_pair(tune)
    tune.add_argument("assignment", metavar="NAME=VALUE", type=arguments.assignment)
    text = "keep an edition from being switched to"
    _add_pair(_add(below, "quarantine", text, edition.quarantine, QUARANTINE_HELP))
    clear = _add(below, "clear", "end an edition's quarantine", edition.clear, CLEAR_HELP)
    _add_pair(clear)
    _add_timeout(clear)
    _add_runtime_dir(clear)
    text = "all there is to know of a kernel function before one writes an edition of it"
    inspect = _add(below, "inspect", text, _inspect, INSPECT_HELP)
    inspect.add_argument("function", metavar="FUNCTION", help="its name, or MODULE:NAME")
    inspect.add_argument(
        "--all", action="store_true", help="every caller, however many; else some 200 of them"
    )
    text = "whether a module's file is fit to be loaded as an edition"
    check = _add(below, "check", text, _check_edition, EDITION_CHECK_HELP)
    check.add_argument("module", metavar="MODULE.ko", type=Path, help="the file")
    check.add_argument("--kernel", metavar="RELEASE", help="another kernel than the running one")
    who = _add(below, "who", "threads that are in a subsystem's functions now", edition.show_who)
    who.add_argument("subsystem", metavar="SUBSYSTEM")


def _add_verify(commands: _Commands[_Parser]) -> None:
    def verify(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.verify import show_verification  # noqa: PLC0415 - imports take long

        return show_verification(args, kmod)

    text = "whether the kernel is as the daemon wants it, and what differs"
    parser = _add(commands, "verify", text, verify, VERIFY_HELP)
    parser.add_argument("subsystem", metavar="SUBSYSTEM", nargs="?", help="only this one")
    _add_runtime_dir(parser)


def _add_doctor(commands: _Commands[_Parser]) -> None:
    def doctor(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.doctor import show_doctor  # noqa: PLC0415 - imports take long

        return show_doctor(args, kmod)

    _add(commands, "doctor", "check what this machine can do", doctor)


def _add_completion(commands: _Commands[_Parser]) -> None:
    def show(args: argparse.Namespace, kmod: Kmod) -> int:
        from dynamosd.cli.complete import show_script  # noqa: PLC0415 - see the top

        return show_script(args, kmod)

    text = "print what a shell needs to complete command lines"
    parser = _add(commands, "completion", text, show, COMPLETION_HELP)
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
