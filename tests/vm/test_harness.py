# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of the harness that need no virtual machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel import guest
from tests.vm import debug_kernel, kernel_build, modules, mutations, vm
from tests.vm.apt import Source, backports, machine_sources, parse_deb822, parse_one_line
from tests.vm.common import EXIT_UNSUPPORTED, EXIT_USAGE, PROJECT, HarnessError
from tests.vm.disk import Disk, parse_size

pytest_plugins = ["pytester"]

KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"


def test_one_line_sources_with_options() -> None:
    text = (
        "# deb http://old.invalid/debian bookworm main\n"
        f"deb [arch=amd64 signed-by={KEY}] http://mirror.invalid/debian bookworm main contrib\n"
        "deb-src http://mirror.invalid/debian bookworm main\n"
    )
    assert parse_one_line(text) == [Source("http://mirror.invalid/debian", "bookworm", KEY)]


def test_deb822_sources_every_suite() -> None:
    text = (
        "Types: deb\n# a comment\nURIs: http://mirror.invalid/debian\n"
        f"Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: {KEY}\n\n"
        "Types: deb\nURIs: http://off.invalid/debian\nSuites: bookworm\nEnabled: no\n"
    )
    suites = [source.suite for source in parse_deb822(text)]
    assert suites == ["bookworm", "bookworm-updates"]


def test_deb822_keeps_an_inline_key() -> None:
    text = (
        "Types: deb\nURIs: http://m.invalid/\nSuites: bookworm\nSigned-By:\n -----BEGIN\n .\n x\n"
    )
    (source,) = parse_deb822(text)
    assert "-----BEGIN\n .\n x" in source.stanza()
    assert parse_deb822(source.stanza()) == [source]


def test_only_this_release_counts(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "deb http://m.invalid/debian bookworm main\n"
        "deb http://s.invalid/debian-security bookworm-security main\n"
        "deb http://other.invalid/apt cloud-sdk-bookworm main\n"
    )
    sources = machine_sources(tmp_path)
    assert [source.suite for source in sources] == ["bookworm", "bookworm-security"]
    assert backports(sources) == [Source("http://m.invalid/debian", "bookworm-backports")]


def test_no_source_for_the_release_is_a_clear_refusal(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no apt source for Debian bookworm") as caught:
        machine_sources(tmp_path)
    assert caught.value.status == EXIT_UNSUPPORTED


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("8M", 8 << 20), ("1g", 1 << 30)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "1T", "-1", "1.5G"])
def test_sizes_refused(text: str) -> None:
    with pytest.raises(HarnessError) as caught:
        parse_size(text)
    assert caught.value.status == EXIT_USAGE


def test_disk_is_throttled_only_when_asked() -> None:
    image = Path("disk.img")
    assert "throttling" not in " ".join(Disk(1 << 20).qemu_options(image))
    slow = " ".join(Disk(1 << 20, 4096, 10).qemu_options(image))
    assert "throttling.bps-total=4096,throttling.iops-total=10" in slow


def test_overlays_never_hide_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    inside_tmp = Path("/tmp/clone")  # noqa: S108
    monkeypatch.setattr(vm, "PROJECT", inside_tmp)
    assert inside_tmp not in vm._overlays()
    monkeypatch.setattr(vm, "PROJECT", Path("/srv/clone"))
    assert Path("/srv/clone") in vm._overlays()
    assert Path("/var") in vm._overlays(Path("/var"))
    monkeypatch.setattr(vm, "PROJECT", Path("/var/clone"))
    assert Path("/var/clone") not in vm._overlays(Path("/var"))


@pytest.mark.parametrize(("ci", "failed"), [("true", 3), ("", 0)])
def test_a_skip_fails_in_ci_only(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, failed: int
) -> None:
    monkeypatch.setenv("CI", ci)
    pytester.makepyfile(
        test_some="""
        import pytest

        @pytest.mark.skip(reason="marked")
        def test_marked(): pass

        def test_called(): pytest.skip("called")

        @pytest.mark.xfail
        def test_expected(): assert False

        def test_good(): pass
        """,
        test_whole="""
        import pytest
        pytest.skip("whole module", allow_module_level=True)
        """,
    )
    result = pytester.runpytest("-p", "tests.vm.noskip", "--continue-on-collection-errors")
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == failed
    assert outcomes["xfailed"] == 1
    assert outcomes["passed"] == 1


def test_emulated_cpus_must_be_run_in_a_way_that_qemu_knows() -> None:
    with pytest.raises(HarnessError, match="TCG=both") as caught:
        vm.Vm(vm.Settings(tcg="both"))
    assert caught.value.status == EXIT_USAGE


def test_an_option_that_the_kernel_has_dropped_is_named() -> None:
    config = 'CONFIG_KASAN=y\nCONFIG_LOCALVERSION="-x"\n# CONFIG_KCSAN is not set\nCONFIG_USB=m\n'
    met = 'CONFIG_KASAN=y\nCONFIG_LOCALVERSION="-x"\n# CONFIG_KCSAN is not set\nCONFIG_NONE=n\n'
    assert kernel_build.unmet(met, config) == []
    wrong = "CONFIG_KCSAN=y\nCONFIG_KASAN=m\n# CONFIG_USB is not set\n"
    assert kernel_build.unmet(wrong, config) == [
        "CONFIG_KCSAN=y",
        "CONFIG_KASAN=m",
        "# CONFIG_USB is not set",
    ]


def test_every_test_of_the_module_runs_on_the_kernel_with_checkers_once() -> None:
    paths = [path for piece in debug_kernel.pieces([]).values() for path in piece]
    there = {str(path.relative_to(PROJECT)) for path in (PROJECT / "tests/kernel").glob("test_*")}
    assert sorted(paths) == sorted(there)
    assert debug_kernel.pieces(["-k", "some"]) == {"chosen": ["-k", "some"]}


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("BUG: KASAN: slab-use-after-free in scope_has+0x1/0x2 [dynamos]", True),
        ("WARNING: possible circular locking dependency detected", True),
        ("ODEBUG: free active (active state 0) object type: work_struct", True),
        ("BUG: KCSAN: data-race in pipe_read / pipe_write", False),
        ("BUG: KCSAN: data-race in event_next [dynamos] / event_emit [dynamos]", True),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 23s!", False),
        ("dynamos: loading out-of-tree module taints kernel.", False),
    ],
)
def test_what_the_kernel_may_not_log_during_a_test(line: str, bad: bool) -> None:  # noqa: FBT001
    assert guest.is_bad(line) is bad


def test_each_deliberate_wrong_has_tests_that_must_catch_it() -> None:
    assert sorted(mutations.MUTATIONS) == modules.mutations()


def test_a_deliberate_wrong_is_built_by_name_and_for_kernels_with_checkers_only() -> None:
    with pytest.raises(HarnessError, match="only for a kernel with checkers"):
        modules.build("6.1", "LOST_COUNT")
    with pytest.raises(HarnessError, match="there are LOST_COUNT"):
        modules.build("debug", "LOST_CONT")
