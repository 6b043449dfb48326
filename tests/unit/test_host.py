from __future__ import annotations

import os
import pwd
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from enforcer.adapters.clock import SystemClock
from enforcer.adapters.host import BoundedLookups, PsutilHost, online_cpus
from enforcer.errors import UnavailableError
from enforcer.ports import Clock, Host

HOST: Host = PsutilHost()


def test_the_capacity_is_the_machines_and_not_this_processs() -> None:
    before = os.sched_getaffinity(0)
    whole = HOST.capacity()
    os.sched_setaffinity(0, {min(before)})
    try:
        assert HOST.capacity() == whole
    finally:
        os.sched_setaffinity(0, before)
    assert whole.cores >= len(before)
    assert whole.memory > 0


def test_cpus_that_are_online_are_told_by_their_numbers(tmp_path: Path) -> None:
    assert HOST.capacity().cores == len(HOST.capacity().online) == os.sysconf("SC_NPROCESSORS_ONLN")
    listed = tmp_path / "online"
    listed.write_text("0,2-3,10\n")
    assert online_cpus(listed) == (0, 2, 3, 10)
    assert online_cpus(tmp_path / "missing") == ()


def test_root_is_known_by_name_and_by_number() -> None:
    assert HOST.user_id("root") == 0
    assert HOST.user_name(0) == "root"
    assert "root" in HOST.groups("root")


@pytest.mark.parametrize(
    "name",
    ["", "nobody-of-that-name", "a\0b", "\udcff", "x" * 10_000, "../../etc", "a:b", "a\nb", "ünï"],
)
def test_a_user_the_host_does_not_know_has_no_groups_and_no_number(name: str) -> None:
    assert HOST.groups(name) == ()
    assert HOST.user_id(name) is None


@pytest.mark.parametrize("uid", [-2, 4_000_000_000, 1 << 40])
def test_a_uid_that_is_nobodys_has_no_name(uid: int) -> None:
    assert HOST.user_name(uid) is None


def test_the_groups_of_every_user_can_be_told() -> None:
    for entry in pwd.getpwall():
        assert all(HOST.groups(entry.pw_name))


def waiting_for(release: threading.Event) -> Callable[[str], str]:
    def look_up(name: str) -> str:
        release.wait()
        return name

    return look_up


def test_a_database_that_hangs_fails_in_time_and_leaves_the_next_caller_alone() -> None:
    release = threading.Event()
    lookups = BoundedLookups(waiting_for(release), timeout_seconds=0.05)
    with pytest.raises(UnavailableError, match="did not say in time") as raised:
        lookups.get("alice")
    assert raised.value.code == "host.users"
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        lookups.get("alice")
    assert time.monotonic() - began < 0.04
    release.set()
    assert _eventually(lookups, "alice") == "alice"


def test_while_the_database_hangs_what_it_said_last_holds() -> None:
    release = threading.Event()
    release.set()
    answers = iter([("staff",), ("other",)])

    def look_up(_name: str) -> tuple[str, ...]:
        release.wait()
        return next(answers)

    lookups = BoundedLookups(look_up, timeout_seconds=0.5)
    assert lookups.get("alice") == ("staff",)
    release.clear()
    assert lookups.get("alice") == ("staff",)
    release.set()


def test_questions_that_hang_do_not_pile_up_threads() -> None:
    release = threading.Event()
    lookups = BoundedLookups(waiting_for(release), timeout_seconds=0.001)
    before = threading.active_count()
    for number in range(40):
        with pytest.raises(UnavailableError):
            lookups.get(f"user{number}")
    assert threading.active_count() - before <= 8
    release.set()


def test_the_clocks_run() -> None:
    clock: Clock = SystemClock()
    assert abs(clock.now() - time.time()) < 5
    assert clock.monotonic() <= clock.monotonic()


def _eventually(lookups: BoundedLookups[str, str], key: str) -> str:
    for _ in range(100):
        try:
            return lookups.get(key)
        except UnavailableError:
            time.sleep(0.01)
    raise AssertionError(key)
