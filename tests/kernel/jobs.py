# SPDX-License-Identifier: GPL-2.0-or-later
"""Two jobs that want the same memory, for `reclaim_load.c`: their cgroups and their files."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.kernel import guest


def cgroup_root() -> Path:
    """Give the folder that cgroup v2 is mounted at."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next(Path(words[1]) for words in mounts if words[2] == "cgroup2")


@contextmanager
def groups(names: Sequence[str]) -> Iterator[list[Path]]:
    """Make cgroups whose memory is counted, a parent before what is in it; take them away again."""
    folders = [cgroup_root() / name for name in names]
    for folder in folders:
        (folder.parent / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir()
    yield folders
    for folder in reversed(folders):
        guest.wait_until(partial(_is_empty, folder), f"nobody is in {folder.name}")
        folder.rmdir()


def _is_empty(cgroup: Path) -> bool:
    return not (cgroup / "cgroup.procs").read_text()


@contextmanager
def files(disk: Path, front: int, sparse: int) -> Iterator[tuple[Path, Path]]:
    """Make the foreground's file of so many bytes, and a sparse one; delete them again."""
    made = disk / "front", disk / "sparse"
    made[0].write_bytes(random.Random(1).randbytes(front))  # noqa: S311 (only to be there)
    with made[1].open("wb") as file:
        file.truncate(sparse)
    yield made
    for each in made:
        each.unlink()
