# SPDX-License-Identifier: GPL-2.0-or-later
"""The editions of `readahead` do what they say, and the data is the same under each of them."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from tests.kernel import control, guest
from tests.kernel.guest import EDITIONS, Reads

pytestmark = pytest.mark.usefixtures("modules")

PAGE = 4096
SECTORS_PER_PAGE = PAGE // 512
READ_AROUND = 32
"""Pages that the kernel reads around a page fault by default: 128 KiB."""
FAULTS = [PAGE * (300 + 400 * i) for i in range(8)]
METADATA = 64
"""Sectors that finding the file's blocks may cost."""


def faults_read(edition: str, data: Path, disk_name: str) -> int:
    """How many sectors eight page faults, far from one another, have the disk read."""
    control.switch_and_drain(edition)
    guest.evict(data)
    before = guest.disk_reads(disk_name)
    guest.map_bytes(data, FAULTS)
    return (guest.disk_reads(disk_name) - before).sectors


def sequence_read(edition: str, data: Path, disk_name: str) -> Reads:
    """What reading the file from start to end in small pieces has the disk do."""
    control.switch_and_drain(edition)
    guest.evict(data)
    before = guest.disk_reads(disk_name)
    guest.read_all(data, PAGE * 4)
    return guest.disk_reads(disk_name) - before


def test_random_reads_only_what_is_asked_for(data: Path, disk_name: str) -> None:
    pages = len(FAULTS) * SECTORS_PER_PAGE
    assert pages <= faults_read("random", data, disk_name) <= pages + METADATA
    around = pages * READ_AROUND
    assert around // 2 <= faults_read("original", data, disk_name) <= around + METADATA


def test_random_reads_a_whole_read_at_once(data: Path, disk_name: str) -> None:
    control.switch_and_drain("random")
    guest.evict(data)
    before = guest.disk_reads(disk_name)
    fd = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.pread(fd, 16 * PAGE, 1000 * PAGE)
    finally:
        os.close(fd)
    sectors = (guest.disk_reads(disk_name) - before).sectors
    assert 16 * SECTORS_PER_PAGE <= sectors <= 16 * SECTORS_PER_PAGE + METADATA


def test_streaming_sends_larger_requests(data: Path, disk_name: str) -> None:
    whole = data.stat().st_size // 512
    original = sequence_read("original", data, disk_name)
    streaming = sequence_read("streaming", data, disk_name)
    for reads in (original, streaming):
        assert whole <= reads.sectors <= whole + METADATA
    assert streaming.sectors / streaming.requests > 2 * original.sectors / original.requests


def test_a_page_fault_under_streaming_reads_no_more_than_the_original(
    data: Path, disk_name: str
) -> None:
    around = len(FAULTS) * SECTORS_PER_PAGE * READ_AROUND
    assert faults_read("streaming", data, disk_name) <= around + METADATA


def test_the_original_reads_ahead_again_after_a_switch_back(data: Path, disk_name: str) -> None:
    """Pages that were marked by one edition are come upon under another."""
    control.switch_and_drain("original")
    guest.evict(data)
    half = data.stat().st_size // 2
    fd = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
    try:
        read = os.read(fd, half)
        control.switch_and_drain("random")
        read += os.read(fd, half // 2)
        control.switch_and_drain("original")
        before = guest.disk_reads(disk_name)
        while part := os.read(fd, 4 * PAGE):
            read += part
        after = guest.disk_reads(disk_name) - before
    finally:
        os.close(fd)
    assert len(read) == data.stat().st_size
    assert read == data.read_bytes()
    assert after.sectors / after.requests > 8 * SECTORS_PER_PAGE


def test_data_is_the_same_in_all_editions(data: Path) -> None:
    sums = set()
    for edition in EDITIONS:
        control.switch_and_drain(edition)
        for read in (guest.read_all, guest.map_all):
            guest.evict(data)
            sums.add(hashlib.sha256(read(data)).hexdigest())
    expected = random.Random(1).randbytes(data.stat().st_size)  # noqa: S311
    assert sums == {hashlib.sha256(expected).hexdigest()}


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE + 123, 40 * PAGE + 7])
def test_the_end_of_a_file(edition: str, size: int, disk: Path) -> None:
    content = random.Random(size).randbytes(size)  # noqa: S311 (only to be different)
    path = disk / "odd"
    path.write_bytes(content)
    control.switch_and_drain(edition)
    places = {0, 1, size - 1, size, size + 1, size // PAGE * PAGE, size + 10 * PAGE, size - PAGE}
    for place in (place for place in places if place >= 0):
        guest.evict(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            assert os.pread(fd, 3 * PAGE, place) == content[place : place + 3 * PAGE]
            assert os.pread(fd, PAGE, size) == b""
        finally:
            os.close(fd)
    guest.evict(path)
    assert guest.read_all(path, 1000) == content
    if size:
        guest.evict(path)
        assert guest.map_all(path) == content
