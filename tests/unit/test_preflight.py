from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from enforcer.adapters.preflight import (
    Ground,
    find_mount,
    judge,
    parse_kernel_version,
    preflight,
    read_ground,
)
from tests.unit.cgrouptrees import build

GOOD = Ground(
    root="/sys/fs/cgroup",
    mount_type="cgroup2",
    options=frozenset({"rw", "nsdelegate", "memory_recursiveprot"}),
    kernel="6.12.57+deb13-cloud-amd64",
    controllers=frozenset({"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}),
    pressure=True,
    init="systemd",
    bus=True,
)
MOUNTS = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 22 0:26 / {root} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
31 22 0:27 / /run rw - tmpfs
"""


def codes(**changes: object) -> list[tuple[str, bool]]:
    problems = judge(dataclasses.replace(GOOD, **changes))  # type: ignore[arg-type]  # any field
    assert all(problem.message and problem.hint for problem in problems)
    return [(problem.code, problem.fatal) for problem in problems]


def test_a_good_machine_has_no_problems() -> None:
    assert judge(GOOD) == ()


def test_a_hybrid_hierarchy_is_refused_and_nothing_more_is_said_about_it() -> None:
    assert codes(mount_type="tmpfs", options=frozenset(), controllers=frozenset()) == [
        ("preflight.cgroup-v2", True)
    ]
    assert codes(mount_type="") == [("preflight.cgroup-v2", True)]


@pytest.mark.parametrize("kernel", ["5.18.19", "5.10.0-32-amd64", "4.19", "", "unknown"])
def test_a_kernel_without_memory_peak_is_refused(kernel: str) -> None:
    assert codes(kernel=kernel) == [("preflight.kernel", True)]


@pytest.mark.parametrize("kernel", ["5.19.0-1", "6.1.0-13-amd64", "10.0"])
def test_newer_kernels_are_fine(kernel: str) -> None:
    assert codes(kernel=kernel) == []


def test_without_recursive_protection_no_guarantee_reaches_a_container() -> None:
    assert codes(options=frozenset({"rw", "nsdelegate"})) == [("preflight.recursiveprot", True)]


def test_missing_controllers_are_fatal_only_where_limits_need_them() -> None:
    assert codes(controllers=frozenset({"memory", "pids"})) == [
        ("preflight.controller", True),
        ("preflight.controller", False),
        ("preflight.controller", False),
    ]


def test_without_pressure_there_is_a_warning() -> None:
    assert codes(pressure=False) == [("preflight.psi", False)]


def test_another_init_or_no_bus_is_refused() -> None:
    assert codes(init="bash", bus=False) == [("preflight.systemd", True)]
    assert codes(bus=False) == [("preflight.dbus", True)]


def test_several_problems_are_told_at_once_the_fatal_ones_first() -> None:
    assert codes(pressure=False, kernel="5.10", bus=False) == [
        ("preflight.dbus", True),
        ("preflight.kernel", True),
        ("preflight.psi", False),
    ]


def test_the_topmost_of_several_mounts_counts() -> None:
    lines = "1 0 0:1 / /x rw - tmpfs tmpfs rw\n2 0 0:2 / /x ro - cgroup2 none rw,nsdelegate\nbad\n"
    assert find_mount(lines, "/x") == ("cgroup2", frozenset({"ro", "rw", "nsdelegate"}))
    assert find_mount(lines, "/y") == ("", frozenset())


def test_versions_are_numbers_not_text() -> None:
    assert parse_kernel_version("5.9.1") == (5, 9)
    assert parse_kernel_version("5.100-rc1") == (5, 100)
    assert parse_kernel_version("five") is None


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Path]:
    build(tmp_path / "run", {"dbus": {}})
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "run" / "dbus" / "system_bus_socket"))
        yield tmp_path / "run"


def test_the_machine_is_looked_at(tmp_path: Path, bus: Path) -> None:
    root = build(tmp_path / "cgroup", {"cgroup.controllers": "cpuset cpu io memory pids\n"})
    proc = build(
        tmp_path / "proc",
        {
            "1": {"comm": "systemd\n"},
            "self": {"mountinfo": MOUNTS.format(root=root)},
            "sys": {"kernel": {"osrelease": "6.12.57\n"}},
            "pressure": {"memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"},
        },
    )
    assert preflight(root, proc, bus) == ()
    assert read_ground(root, proc, bus).options >= {"rw", "nosuid", "nsdelegate"}


def test_a_machine_where_nothing_can_be_read_has_every_fatal_problem(tmp_path: Path) -> None:
    problems = preflight(tmp_path, tmp_path, tmp_path)
    assert [problem.code for problem in problems if problem.fatal] == [
        "preflight.systemd",
        "preflight.kernel",
        "preflight.cgroup-v2",
    ]
