# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that know nothing of this, while every subsystem is switched at random, in every mode.

All that they say is compared. `DYNAMOS_PROGRAMS` says how many switches there are; `make programs`
makes 2,000 on each kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.kernel import guest
from tests.kernel.jobs import cgroup_root, groups
from tests.kernel.target import set_parameter_text
from tests.kernel.torture import actions
from tests.kernel.torture.hands import deal, play
from tests.kernel.torture.stage import PIPE, PLACEMENT, READAHEAD, RECLAIM, SPINNING, stage
from tests.kernel.traffic import stress_ng, summing, verified_io

# All that it is made of is tested by itself on each kernel.
pytestmark = pytest.mark.one_kernel

SUBSYSTEMS = (PIPE, PLACEMENT, READAHEAD, RECLAIM, SPINNING)
SHORT = 40
SWITCHES = int(os.environ.get("DYNAMOS_PROGRAMS", SHORT))
SEED = 5
MEMORY = 48 << 20
"""What those with data have together: so little that pages are given up all the time."""

ARCHIVE = "tar --sort=name -C {tree} -cf - . | zstd -q | zstd -dq | tar -xOf - | md5sum"
DATABASE = """
rm -f {database}; sqlite3 {database} "
create table t (a integer primary key, b text);
with recursive n (a) as (values (1) union all select a + 1 from n where a < 2000)
insert into t select a, hex(zeroblob(a % 200)) from n;
create index i on t (b);
delete from t where a % 3 = 0;
vacuum;
pragma integrity_check;
select count(*), sum(a), sum(length(b)) from t;
" | md5sum
"""
MESSAGES = "hackbench -g 1 -f 4 -l 30 -s 256 {option} > /dev/null && echo done"
PERF = "perf bench -f simple sched pipe -l 100 > /dev/null && echo done"
AGAIN = """
echo $$ > {cgroup}/cgroup.procs || exit
while :; do {script}
done
"""


@pytest.fixture
def jobs() -> Iterator[list[Path]]:
    """Give two cgroups that have little memory together."""
    names = ["dynamos_jobs", "dynamos_jobs/front", "dynamos_jobs/back"]
    with groups(names) as (both, *jobs):
        (both / "memory.max").write_text(str(MEMORY))
        yield jobs


@pytest.fixture
def tree(disk: Path, data: Path) -> Path:
    """Give a folder with some files on the disk."""
    tree = disk / "tree"
    tree.mkdir(exist_ok=True)
    bytes_ = data.read_bytes()
    for part in range(8):
        (tree / f"{part:02}").write_bytes(bytes_[part << 18 : (part + 1) << 18])
    return tree


@pytest.mark.timeout(max(1800, 10 * SWITCHES))
def test_programs_under_switching_of_all_subsystems(
    disk: Path, data: Path, tree: Path, jobs: list[Path], tmp_path: Path
) -> None:
    front, back = jobs
    everybody = cgroup_root()
    programs = {
        "archive": (front, ARCHIVE.format(tree=tree)),
        "database": (front, DATABASE.format(database=disk / "database")),
        "reader": (back, f"md5sum < {data}"),
        "messages": (everybody, MESSAGES.format(option="")),
        "messages-by-threads": (everybody, MESSAGES.format(option="-T")),
        "messages-by-pipe": (everybody, PERF),
    }
    scripts = {
        name: AGAIN.format(cgroup=cgroup, script=script)
        for name, (cgroup, script) in programs.items()
    }
    with stage(tmp_path, SUBSYSTEMS, (), actions.MODES) as scene:
        set_parameter_text("dynamos_reclaim_foreground", "foreground", "/dynamos_jobs/front\n")
        decks = deal({actions.switch: SWITCHES}, 1, SEED)
        # In a short run the other programs are enough: test_stress has this one.
        more = stress_ng(disk) if SWITCHES > SHORT else nullcontext()
        with more, verified_io(disk, 1), summing(scripts, tmp_path) as sums:
            done = play([scene], decks, SEED)
            guest.wait_until(sums.there_are_some, "each program was there while it was switched")
        switched = sum(done[mode.split()[0]] for mode in set(actions.MODES))
        assert switched > SWITCHES // 4, done
