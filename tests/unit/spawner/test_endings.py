"""Why a server ended, in words."""

from __future__ import annotations

import pytest

from enforcer.api.types import ReceiptReply
from enforcer.model import EndReason
from enforcer.quantities import GIB
from spawner.endings import ending


def a_receipt(reason: EndReason) -> ReceiptReply:
    return ReceiptReply(
        lease_id="f" * 32,
        user="alice",
        server="",
        profile="Small",
        image="Base",
        cpu_limit=2,
        mem_limit=10 * GIB,
        cpu_guarantee=0,
        mem_guarantee=0,
        started_at=0,
        ended_at=1,
        reason=reason,
        cpu_seconds=1,
        throttled_seconds=0,
        memory_peak=10 * GIB,
        oom_kills=1,
        oom_kills_as_victim=0,
        sentence="",
    )


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (EndReason.OOM_LIMIT, "your server was stopped: 10 GiB memory limit reached, peak 10 GiB"),
        (EndReason.OOM_VICTIM, "through no fault of its own"),
        (EndReason.EXITED, "ended by itself (exit code 3); it used at most 10 GiB of memory"),
        (EndReason.LOST, "was gone when the machine's resource service came back"),
        (EndReason.STOPPED, "your server was stopped"),
    ],
)
def test_a_receipt_says_why(reason: EndReason, said: str) -> None:
    assert said in ending(a_receipt(reason), {"ExitCode": 3})


def test_a_limit_that_was_another_at_the_kill_is_the_one_of_then() -> None:
    killed = a_receipt(EndReason.OOM_LIMIT).model_copy(update={"limit_at_kill": 8 * GIB})
    assert "8 GiB memory limit reached" in ending(killed, None)


def test_without_a_receipt_docker_says_what_it_knows() -> None:
    assert "its container was removed" in ending(None, None)
    assert "ran out of memory" in ending(None, {"OOMKilled": True, "ExitCode": 137})
    assert "ended by itself (exit code 0)" in ending(None, {"OOMKilled": False, "ExitCode": 0})
    assert ending(a_receipt(EndReason.EXITED), None).startswith("your server ended by itself; it")
