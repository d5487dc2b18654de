# SPDX-License-Identifier: GPL-2.0-or-later
"""Random switches in every mode under load: no warning, no lost byte, and exact counters.

`DYNAMOS_STRESS` says how many switches; `make stress` makes 2,000 on each kernel. `test_torture.py`
does more than switch, and not one thing after the other.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kernel.torture import actions
from tests.kernel.torture.hands import deal, play
from tests.kernel.torture.stage import PIPE, READAHEAD, stage
from tests.kernel.traffic import counted, stress_ng, summed

SWITCHES = int(os.environ.get("DYNAMOS_STRESS", "40"))
SEED = 4
"""The same switches in every run."""


@pytest.mark.timeout(max(1200, 5 * SWITCHES))
def test_random_switches_in_all_modes_under_load(disk: Path, data: Path, tmp_path: Path) -> None:
    decks = deal({actions.switch: SWITCHES}, 1, SEED)
    with (
        stage(tmp_path, (PIPE, READAHEAD), (), actions.MODES) as scene,
        counted("pipe", "pipe_write"),
    ):
        with stress_ng(disk), summed(data, tmp_path):
            done = play([scene], decks, SEED)
        switched = {mode.split()[0]: done[mode.split()[0]] for mode in actions.MODES}
        assert all(switched.values()), f"each mode was used: {switched}"
        assert sum(switched.values()) > SWITCHES // 4
