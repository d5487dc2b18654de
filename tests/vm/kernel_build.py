# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that are built here, because no distribution has them: with the kernel's own checkers on.

Debian's source, virtme-ng's configuration, and fragments from `configs/`. What comes out has the
layout of an unpacked kernel package (kernels.py), but for the folder that modules are built in:
that is the build itself, `.cache/kernel-build/<name>`, kept so that a changed fragment rebuilds
only what depends on it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

from tests.vm import source
from tests.vm.common import (
    CACHE,
    EXIT_UNSUPPORTED,
    PROJECT,
    HarnessError,
    clean_environment,
    run,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BUILT: Mapping[str, tuple[str, ...]] = {
    "debug": ("needed", "debug"),
    "kcsan": ("needed", "kcsan"),
}
"""The kernels, and the fragments of each; a later one wins."""

BOOT: Mapping[str, tuple[str, ...]] = {
    # Or KASAN is silent after its first report.
    "debug": ("kasan_multi_shot",),
}
"""What they need on their command line."""

_CONFIGS = PROJECT / "tests/vm/configs"
_BUILDS = CACHE / "kernel-build"
_CONFIGURE = PROJECT / ".venv/bin/virtme-configkernel"
_COMPILER = "CC=gcc-12"
_PROGRESS_SECONDS = 30.0
_TAIL = 40
_TOOLS = {"flex": "flex", "bison": "bison", "bc": "bc", "pahole": "dwarves"}
_SET = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)
_UNSET = re.compile(r"^# (CONFIG_\w+) is not set$", re.MULTILINE)


def _fragments(name: str) -> list[Path]:
    return [_CONFIGS / f"{fragment}.config" for fragment in BUILT[name]]


def fingerprint(name: str) -> str:
    """Digest what the result depends on; fetches the source when the cache lacks it."""
    digest = hashlib.sha256()
    digest.update(f"{source.get().version} {version('virtme-ng')} {_COMPILER}".encode())
    for fragment in _fragments(name):
        digest.update(fragment.read_bytes())
    return digest.hexdigest()


def unmet(wanted: str, config: str) -> list[str]:
    """Name the options of a fragment that a configuration has not as the fragment wants them.

    The kernel's own tool drops an option whose dependencies are not met without a word.
    """
    values = dict(_SET.findall(config))
    missing = [
        f"{option}={value}"
        for option, value in _SET.findall(wanted)
        if values.get(option) != value and not (value == "n" and option not in values)
    ]
    return missing + [
        f"# {option} is not set" for option in _UNSET.findall(wanted) if option in values
    ]


def _configure(name: str, build: Path) -> None:
    say(f"kernel {name}: configuring")
    command: list[str | Path] = [_CONFIGURE, "--arch", "x86_64", "--defconfig"]
    for fragment in _fragments(name):
        command += ["--custom", fragment]
    run([*command, f"O={build}", _COMPILER], cwd=source.get().tree)
    config = (build / ".config").read_text()
    missing = [
        f"{fragment.name}: {option}"
        for fragment in _fragments(name)
        for option in unmet(_effective(fragment, name), config)
    ]
    if missing:
        raise HarnessError(
            "\n".join(
                [*missing, f"the configuration of kernel {name} lacks these: see tests/vm/configs"]
            )
        )


def _effective(fragment: Path, name: str) -> str:
    """Give what a fragment says that no later one says otherwise."""
    later = _fragments(name)[_fragments(name).index(fragment) + 1 :]
    overruled = {
        option
        for other in later
        for pattern in (_SET, _UNSET)
        for option in (match[1] for match in pattern.finditer(other.read_text()))
    }
    lines = fragment.read_text().splitlines()
    return "\n".join(line for line in lines if not overruled & set(re.findall(r"CONFIG_\w+", line)))


def _compile(name: str, build: Path) -> None:
    """Run kbuild, and tell now and then how far it is."""
    log = build.with_name(f"{name}.log")
    command = [
        "make",
        "-C",
        str(build),
        f"-j{os.cpu_count() or 1}",
        _COMPILER,
        "bzImage",
        "modules",
    ]
    started = told = time.monotonic()
    done = 0
    say(f"kernel {name}: building; an hour or so, once (all it says: {log})")
    with (
        log.open("w") as kept,
        subprocess.Popen(
            command,
            env=clean_environment(),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            kept.write(line)
            done += 1
            if time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                minutes = (told - started) / 60
                say(f"kernel {name}: {minutes:.0f} min, {done} steps, now {line.strip()}")
    if process.returncode != 0:
        tail = log.read_text().splitlines()[-_TAIL:]
        raise HarnessError("\n".join([*tail, f"kernel {name} does not build: {log}"]))
    say(f"kernel {name}: built in {(time.monotonic() - started) / 60:.0f} min")


def _install(build: Path, tree: Path) -> None:
    """Lay the products out as a kernel package does."""
    release = (build / "include/config/kernel.release").read_text().strip()
    (tree / "boot").mkdir(parents=True)
    shutil.copy(build / "arch/x86/boot/bzImage", tree / "boot" / f"vmlinuz-{release}")
    # depmod is left to whoever adds modules.
    run(["make", "-C", build, f"INSTALL_MOD_PATH={tree}", "DEPMOD=true", "modules_install"])


def build(name: str, tree: Path) -> None:
    """Build one of `BUILT` and put what a guest needs below ``tree``, which must not exist."""
    missing = [package for tool, package in _TOOLS.items() if not shutil.which(tool)]
    if missing:
        raise HarnessError(
            f"missing: {', '.join(missing)}; run `make setup` as root", EXIT_UNSUPPORTED
        )
    folder = _BUILDS / name
    folder.mkdir(parents=True, exist_ok=True)
    _configure(name, folder)
    _compile(name, folder)
    _install(folder, tree)
