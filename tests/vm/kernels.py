# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels in a cache folder: image, modules and headers, none of them installed.

`.cache/kernels/<name>/` is the unpacked tree of one stock kernel's packages, or what
kernel_build.py made in the same layout. It appears by a rename once it is complete, is used
without a network from then on, and is replaced only by `make kernels-refresh`; one that is
built here also when its configuration changed. Versions are never written down: mirrors drop
old ones.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.vm import kernel_build, source
from tests.vm.apt import PrivateApt, backports, machine_sources
from tests.vm.btf import ensure_vmlinux
from tests.vm.common import CACHE, EXIT_USAGE, HarnessError, locked, run, say

if TYPE_CHECKING:
    from pathlib import Path

KERNELS = ("6.1", "6.12")
BUILT = tuple(kernel_build.BUILT)
_MADE_FROM = "dynamos.made-from"
_ROOT = CACHE / "kernels"


@dataclass(frozen=True)
class Kernel:
    """One unpacked kernel."""

    name: str
    tree: Path

    @property
    def release(self) -> str:
        """Return what `uname -r` says in the guest."""
        return next((self.tree / "lib/modules").iterdir()).name

    @property
    def image(self) -> Path:
        """Return the bootable image."""
        return self.tree / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        """Return the modules' folder, `/lib/modules/<release>` in the guest."""
        return self.tree / "lib/modules" / self.release

    @property
    def headers(self) -> Path:
        """Return the folder that `make -C` builds modules in."""
        return (self.modules / "build").resolve()


def _apt(name: str) -> PrivateApt:
    sources = machine_sources()
    return PrivateApt(name, sources if name == KERNELS[0] else backports(sources))


def _resolve(apt: PrivateApt, name: str) -> list[str]:
    """Follow the metapackages to the packages that carry the files."""
    image = [p for p in apt.depends("linux-image-amd64") if p.startswith("linux-image-")]
    headers = [p for p in apt.depends("linux-headers-amd64") if p.startswith("linux-headers-")]
    if not image or not headers:
        raise HarnessError(f"the mirror has no kernel {name} for this release")
    if not image[0].startswith(f"linux-image-{name}."):
        raise HarnessError(f"wanted kernel {name}, the mirror now offers {image[0]}")
    common = [
        package
        for package in apt.depends(headers[0])
        if package.startswith(("linux-headers-", "linux-kbuild-"))
    ]
    return [*image, *headers, *common]


def _merge_usr(tree: Path) -> None:
    """Make `lib` and `usr/lib` one folder, whichever the packages unpacked into."""
    usr_lib, lib = tree / "usr/lib", tree / "lib"
    usr_lib.mkdir(parents=True, exist_ok=True)
    if lib.is_dir() and not lib.is_symlink():
        for path in lib.iterdir():
            target = usr_lib / path.name
            if target.exists():
                shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True)
                shutil.rmtree(path)
            else:
                path.rename(target)
        lib.rmdir()
    if not lib.exists():
        lib.symlink_to("usr/lib")


def _make_relative(tree: Path) -> None:
    """Turn the packages' absolute /usr/src paths into ones that hold inside the tree."""
    for link in (tree / "lib/modules").glob("*/*"):
        if link.is_symlink() and str(link.readlink()).startswith("/"):
            inside = tree / str(link.readlink()).lstrip("/")
            here = link.parent.resolve()
            link.unlink()
            link.symlink_to(os.path.relpath(inside.resolve(), here))
    beside = "$(dir $(lastword $(MAKEFILE_LIST)))../"
    for makefile in (tree / "usr/src").glob("*/Makefile"):
        text = makefile.read_text()
        if "include /usr/src/" in text:
            makefile.write_text(text.replace("include /usr/src/", f"include {beside}"))


def _unpack(archives: list[Path], tree: Path) -> None:
    for number, archive in enumerate(archives, 1):
        say(f"unpacking {number}/{len(archives)}: {archive.name}")
        run(["dpkg", "-x", archive, tree])


def _fetch(name: str) -> None:
    work = _ROOT / f"{name}.new"
    shutil.rmtree(work, ignore_errors=True)
    tree = work / "tree"
    tree.mkdir(parents=True)
    say(f"kernel {name}: reading the package lists")
    apt = _apt(name)
    apt.update()
    packages = _resolve(apt, name)
    say(f"kernel {name}: downloading {' '.join(packages)}")
    _unpack(apt.download(packages, work / "debs"), tree)
    _merge_usr(tree)
    _make_relative(tree)
    kernel = Kernel(name, tree)
    ensure_vmlinux(kernel.image, kernel.headers)
    run(["depmod", "-b", tree, kernel.release], what="depmod")
    final = _ROOT / name
    if final.exists():
        final.rename(work / "old")
    tree.rename(final)
    shutil.rmtree(work)
    say(f"kernel {name}: {kernel_release(name)} is in {final.relative_to(CACHE.parent)}")


def _is_made_from(tree: Path, fingerprint: str) -> bool:
    stamp = tree / _MADE_FROM
    return stamp.is_file() and stamp.read_text() == fingerprint


def _build(name: str, fingerprint: str) -> None:
    work = _ROOT / f"{name}.new"
    shutil.rmtree(work, ignore_errors=True)
    kernel_build.build(name, work)
    run(["depmod", "-b", work, Kernel(name, work).release], what="depmod")
    (work / _MADE_FROM).write_text(fingerprint)
    final = _ROOT / name
    shutil.rmtree(final, ignore_errors=True)
    work.rename(final)
    say(f"kernel {name}: {kernel_release(name)} is in {final.relative_to(CACHE.parent)}")


def _ensure_built(name: str, *, refresh: bool) -> None:
    if refresh:
        source.get(refresh=True)
    fingerprint = kernel_build.fingerprint(name)
    if _is_made_from(_ROOT / name, fingerprint):
        return
    with locked(_ROOT / f"{name}.lock"):
        if not _is_made_from(_ROOT / name, fingerprint):
            _build(name, fingerprint)


def kernel_release(name: str) -> str:
    """Return the full release of a cached kernel."""
    return Kernel(name, _ROOT / name).release


def get(name: str, *, refresh: bool = False) -> Kernel:
    """Return a kernel, fetching or building it when the cache lacks it."""
    if name not in KERNELS + BUILT:
        known = ", ".join(KERNELS + BUILT)
        raise HarnessError(f"KERNEL={name}: this project knows {known}", EXIT_USAGE)
    tree = _ROOT / name
    if name in BUILT:
        _ensure_built(name, refresh=refresh)
        return Kernel(name, tree)
    if refresh or not tree.is_dir():
        with locked(_ROOT / f"{name}.lock"):
            if refresh or not tree.is_dir():
                _fetch(name)
    return Kernel(name, tree)


def main(argv: list[str] | None = None) -> int:
    """Fetch or build kernels from the command line."""
    parser = argparse.ArgumentParser(prog="tests.vm.kernels", description=__doc__)
    parser.add_argument("--refresh", action="store_true", help="fetch again even if cached")
    parser.add_argument("names", nargs="*", help=f"default: {' '.join(KERNELS)}")
    args = parser.parse_args(argv)
    try:
        for name in args.names or KERNELS:
            kernel = get(name, refresh=args.refresh)
            print(f"{name}: {kernel.release}")
    except HarnessError as error:
        say(f"error: {error}")
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
