# SPDX-License-Identifier: GPL-2.0-or-later
"""Command line of the harness: `python -m tests.vm [options] [-- COMMAND]`.

Each option's default comes from the variable of `make vm` of the same name.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from tests.vm.common import HarnessError, say
from tests.vm.disk import Disk, parse_size
from tests.vm.vm import (
    TCG_THREADS,
    Settings,
    Vm,
    default_memory,
    exit_on_signals,
    passed_environment,
)


def _parser() -> argparse.ArgumentParser:
    env = os.environ.get
    parser = argparse.ArgumentParser(prog="tests.vm", description=__doc__)
    parser.add_argument("--kernel", default=env("KERNEL") or "6.1")
    parser.add_argument("--memory", default=env("MEM", ""), help="default: 1G, 3G with checkers")
    parser.add_argument("--cpus", type=int, default=int(env("CPUS") or 2))
    parser.add_argument("--timeout", type=float, default=float(env("TIMEOUT") or 1800))
    parser.add_argument("--disk", default=env("DISK", ""), help="size, e.g. 1G")
    parser.add_argument("--disk-bps", default=env("DISK_BPS") or "0", help="e.g. 8M")
    parser.add_argument("--disk-iops", type=int, default=int(env("DISK_IOPS") or 0))
    parser.add_argument("--append", default=env("APPEND", ""), help="kernel command line")
    parser.add_argument(
        "--tcg",
        default=env("TCG") or TCG_THREADS[0],
        metavar="|".join(TCG_THREADS),
        help="emulated CPUs take turns, or have a host thread each (see tests/vm/README.md)",
    )
    parser.add_argument("--qemu-opts", default=env("QEMU_OPTS", ""))
    parser.add_argument(
        "--systemd",
        action="store_true",
        default=env("SYSTEMD") == "1",
        help="boot Debian's systemd, and run the command as a service of it",
    )
    parser.add_argument(
        "--no-modules",
        action="store_true",
        default=env("MODULES") == "0",
        help="do not build kmod/ first",
    )
    parser.add_argument(
        "--mutation", default=env("MUTATION", ""), help="a deliberate wrong, see kmod/mutation.h"
    )
    parser.add_argument("command", nargs="?", default=env("VM_CMD", ""))
    return parser


def _settings(args: argparse.Namespace) -> Settings:
    disk = None
    if args.disk:
        disk = Disk(parse_size(args.disk), parse_size(args.disk_bps), args.disk_iops)
    return Settings(
        kernel=args.kernel,
        memory=args.memory or default_memory(args.kernel),
        cpus=args.cpus,
        timeout=args.timeout,
        disk=disk,
        systemd=args.systemd,
        build_modules=not args.no_modules,
        mutation=args.mutation,
        append=args.append,
        tcg=args.tcg,
        qemu_options=tuple(shlex.split(args.qemu_opts)),
        environment=passed_environment(),
    )


def main(argv: list[str] | None = None) -> int:
    """Run a command in a virtual machine, or a shell."""
    args = _parser().parse_args(argv)
    exit_on_signals()
    try:
        vm = Vm(_settings(args))
        return vm.run(args.command) if args.command else vm.shell()
    except HarnessError as error:
        say(f"error: {error}")
        return error.status


if __name__ == "__main__":
    sys.exit(main())
