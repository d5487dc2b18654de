# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's source, out of Debian's package of it for this release.

Header packages lack the kernel's own tools and, of course, the kernel. The package is found by
its metapackage's dependency: versions are never written down, for mirrors drop old ones.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.vm.apt import PrivateApt, machine_sources
from tests.vm.common import CACHE, HarnessError, locked, run, say

if TYPE_CHECKING:
    from pathlib import Path

_METAPACKAGE = "linux-source"
_FOLDER = CACHE / "kernel-source"
_VERSION = "dynamos.version"


@dataclass(frozen=True)
class Source:
    """An unpacked source tree."""

    tree: Path
    version: str


def download(into: Path) -> Path:
    """Fetch the newest package (about 140 MB); return its file."""
    apt = PrivateApt("6.1", machine_sources())
    apt.update()
    real = [name for name in apt.depends(_METAPACKAGE) if name.startswith(f"{_METAPACKAGE}-")]
    if not real:
        raise HarnessError("the mirror has no kernel source package")
    return apt.download(real, into)[0]


def extract(package: Path, into: Path, *members: str) -> None:
    """Take files out of the tarball inside the package, without its first folder.

    Args:
        package: what `download` returned
        into: a folder that is there
        members: wildcards of paths; none: everything
    """
    listing = run(["dpkg-deb", "--contents", package])
    inner = next(word for word in listing.split() if word.endswith(".tar.xz"))
    strip = 1 + max((member.count("/") - 1 for member in members), default=0)
    script = (
        'dpkg-deb --fsys-tarfile "$1" | tar -xO "$2" '
        f'| tar -xJ -C "$3" --strip-components={strip} --wildcards "${{@:4}}"'
    )
    run(["bash", "-o", "pipefail", "-c", script, "extract", package, inner, into, *members])


def _fetch() -> None:
    work = _FOLDER.with_name(f"{_FOLDER.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    tree = work / "tree"
    tree.mkdir(parents=True)
    say("fetching the kernel's source package")
    package = download(work)
    say(f"unpacking {package.name} (1.4 GB)")
    extract(package, tree)
    # Debian's file names are <package>_<version>_<architecture>.deb
    (tree / _VERSION).write_text(package.name.split("_")[1])
    shutil.rmtree(_FOLDER, ignore_errors=True)
    tree.rename(_FOLDER)
    shutil.rmtree(work)


def get(*, refresh: bool = False) -> Source:
    """Return the source, fetching it when the cache lacks it."""
    stamp = _FOLDER / _VERSION
    with locked(_FOLDER.with_suffix(".lock")):
        if refresh or not stamp.is_file():
            _fetch()
    return Source(_FOLDER, stamp.read_text())
