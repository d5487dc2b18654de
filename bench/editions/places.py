# SPDX-License-Identifier: GPL-2.0-or-later
"""What loads need beside a machine; made in the guest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.kernel import jobs

MIB = 1 << 20
FOREGROUND, BACKGROUND = "foreground.slice", "background.slice"
"""As docs/editions/reclaim.md calls them."""


@contextmanager
def two_jobs(front_mib: int, sparse_mib: int) -> Iterator[Mapping[str, str]]:
    """Give two cgroups, `front` and `back`, and a file for each: `file` and `sparse`."""
    disk = Path(os.environ["DYNAMOS_DISK"])
    with (
        jobs.groups([FOREGROUND, BACKGROUND]) as (front, back),
        jobs.files(disk, front_mib * MIB, sparse_mib * MIB) as (file, sparse),
    ):
        names = {"front": front, "back": back, "file": file, "sparse": sparse}
        yield {name: str(path) for name, path in names.items()}
