# SPDX-License-Identifier: GPL-2.0-or-later
"""Build kmod/ against a cached kernel and put the modules where `modprobe` finds them.

The build runs on a copy (`.cache/build/<kernel>/kmod`), so that both kernels' products
live side by side and the source tree stays clean. Nothing is done when no source changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.vm import kernels
from tests.vm.common import (
    CACHE,
    EXIT_UNSUPPORTED,
    EXIT_USAGE,
    PROJECT,
    HarnessError,
    clean_environment,
    locked,
    run,
    say,
)

SOURCE = PROJECT / "kmod"
_BUILD = CACHE / "build"
# What a build leaves behind, should somebody have built in the source tree by hand.
_PRODUCTS = {".o", ".ko", ".mod", ".cmd", ".symvers", ".order"}
# Beside the modules it vouches for: a refreshed kernel has neither.
_STAMP = "dynamos.stamp"
_MUTATED = re.compile(r"dynamos_mutated\((\w+)\)")


def present() -> bool:
    """Tell whether there is a module to build."""
    return (SOURCE / "Kbuild").exists()


def is_source(path: Path) -> bool:
    """Tell a file that somebody wrote from one that a build left."""
    generated = path.suffix in _PRODUCTS or path.name.endswith(".mod.c")
    return path.is_file() and not generated


def _sources() -> dict[str, Path]:
    """List the files to build, by their path inside kmod/."""
    paths = sorted(path for path in SOURCE.rglob("*") if is_source(path))
    return {str(path.relative_to(SOURCE)): path for path in paths}


def mutations() -> list[str]:
    """Name the deliberate wrongs that kmod/ can be built with (kmod/mutation.h)."""
    found: set[str] = set()
    for path in SOURCE.glob("*.c"):
        found.update(_MUTATED.findall(path.read_text()))
    return sorted(found)


def _check_mutation(name: str, mutation: str) -> None:
    if mutation and name not in kernels.BUILT:
        raise HarnessError(
            f"MUTATION={mutation}: only for a kernel with checkers, not for {name}", EXIT_USAGE
        )
    if mutation and mutation not in mutations():
        raise HarnessError(f"MUTATION={mutation}: there are {' '.join(mutations())}", EXIT_USAGE)


def _fingerprint(kernel: kernels.Kernel, sources: dict[str, Path], mutation: str) -> str:
    """Digest everything that the result depends on."""
    digest = hashlib.sha256(f"{kernel.release} {mutation}".encode())
    for name, path in sources.items():
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _same(source: Path, target: Path) -> bool:
    if not target.is_file():
        return False
    return source.read_bytes() == target.read_bytes()


def copy_sources(target: Path) -> None:
    """Bring a copy of kmod/ up to date, touching only what changed."""
    sources = _sources()
    manifest = target.parent / "sources.list"
    before = manifest.read_text().splitlines() if manifest.exists() else []
    if set(before) - set(sources):
        # Products of a source that is gone would linger: start afresh.
        shutil.rmtree(target, ignore_errors=True)
    for name, path in sources.items():
        copy = target / name
        if not _same(path, copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    manifest.write_text("\n".join(sources))


def _to_source(line: str, target: Path) -> str:
    """Name the source tree's file in a compiler message, not the copy's."""
    return line.replace(f"{target}/", "kmod/")


def make(headers: Path, target: Path, *variables: str) -> tuple[int, list[str]]:
    """Run kbuild on a copy; return its status and its output lines."""
    command = [
        "make",
        "-C",
        str(headers),
        f"M={target}",
        f"-j{os.cpu_count() or 1}",
        "CC=gcc-12",
        # Needed for kfunc sets only, of which we have none, and missing from 6.1's tools.
        "RESOLVE_BTFIDS=true",
        "W=1",
        "DYNAMOS_SELFTEST=m",
        *variables,
        "modules",
    ]
    done = subprocess.run(
        command,
        env=clean_environment(),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, [_to_source(line, target) for line in done.stdout.splitlines()]


def _install(kernel: kernels.Kernel, target: Path) -> list[str]:
    """Copy the modules into the kernel's `updates` folder; each file is swapped whole."""
    updates = kernel.modules / "updates"
    updates.mkdir(exist_ok=True)
    built = {path.name: path for path in sorted(target.rglob("*.ko"))}
    for stale in updates.iterdir():
        if stale.name not in built:
            stale.unlink()
    for name, path in built.items():
        if not _same(path, updates / name):
            # A guest that runs now keeps reading the old file.
            fresh = updates.parent / f".{name}.new"
            shutil.copy(path, fresh)
            fresh.replace(updates / name)
    run(["depmod", "-b", kernel.tree, kernel.release], what="depmod")
    return sorted(built)


def build(name: str, mutation: str = "") -> list[str]:
    """Build and install for one kernel; return the modules' file names.

    Args:
        name: the kernel
        mutation: a deliberate wrong to build in, one of `mutations`; "": none, as for any use
    """
    _check_mutation(name, mutation)
    kernel = kernels.get(name)
    if not present():
        say("there is no kmod/Kbuild yet: no modules to build")
        return []
    # In a folder of its own: kbuild cannot know of what the compiler is told beside the sources.
    target = _BUILD / name / ("kmod" if not mutation else f"mutations/{mutation}/kmod")
    stamp = kernel.modules / _STAMP
    with locked(_BUILD / name / "lock"):
        fingerprint = _fingerprint(kernel, _sources(), mutation)
        if stamp.exists() and stamp.read_text().split("\n", 1)[0] == fingerprint:
            return stamp.read_text().splitlines()[1:]
        stamp.unlink(missing_ok=True)
        say(f"building modules for {kernel.release}" + (f", {mutation}" if mutation else ""))
        target.mkdir(parents=True, exist_ok=True)
        copy_sources(target)
        _make_or_fail(
            kernel.headers,
            target,
            "MODULES=0 runs a VM without building",
            f"DYNAMOS_MUTATION={mutation}",
        )
        installed = _install(kernel, target)
        stamp.write_text("\n".join([fingerprint, *installed]))
        return installed


def _make_or_fail(headers: Path, target: Path, hint: str, *variables: str) -> None:
    status, lines = make(headers, target, *variables)
    if status != 0:
        raise HarnessError("\n".join([*lines, f"the modules do not build ({hint})"]))
    for line in lines:
        if "warning:" in line:
            say(line)


def build_for_this_machine() -> Path:
    """Build for the running kernel, in the cache; return the folder that holds the modules."""
    release = os.uname().release
    headers = Path("/lib/modules") / release / "build"
    if not (headers / "Makefile").exists():
        raise HarnessError(
            f"the headers of this kernel are missing: apt install linux-headers-{release}",
            EXIT_UNSUPPORTED,
        )
    target = _BUILD / "host" / "kmod"
    with locked(target.parent / "lock"):
        say(f"building modules for {release}")
        copy_sources(target)
        _make_or_fail(headers, target, "for this machine's kernel", "DYNAMOS_SELFTEST=")
        together = target.parent / "modules"
        together.mkdir(exist_ok=True)
        for path in target.rglob("*.ko"):
            shutil.copy(path, together)
    return together


def main(argv: list[str] | None = None) -> int:
    """Build from the command line."""
    parser = argparse.ArgumentParser(prog="tests.vm.modules", description=__doc__)
    parser.add_argument("--mutation", default="", help="a deliberate wrong, see kmod/mutation.h")
    parser.add_argument("names", nargs="*", default=kernels.KERNELS)
    args = parser.parse_args(argv)
    try:
        for name in args.names:
            print(f"{name}: {' '.join(build(name, args.mutation)) or 'no modules'}")
    except HarnessError as error:
        say(f"error: {error}")
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
