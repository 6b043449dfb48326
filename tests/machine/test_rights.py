"""Who may have what, from the configuration to the kernel's files: groups, totals, modes."""

from __future__ import annotations

import json
from typing import Final

import pytest

from enforcer.errors import EnforcerError
from enforcer.model import Claim, EndReason, LeaseState
from enforcer.names import ADOPTED, ROOT, user_slice
from enforcer.quantities import MIB, Bytes, Cpus
from enforcer.slices import KERNELS_OWN
from tests.machine.lab import CHECKOUT, CONFIG, Lab, until

_BASE: Final = (CHECKOUT / "tests/machine/enforcer.toml").read_text()
_GROUPED: Final = f"""{_BASE}
[group_profiles.students]
allowed_resources = ["Small"]
max_preallocate = {{ cpu_guarantee = 0.1, mem_guarantee = "32 MiB" }}
mem_total = "384 MiB"

[group_profiles.course]
max_preallocate = {{ cpu_guarantee = 0.1, mem_guarantee = "96 MiB" }}
"""
_BOB: Final = """
[user_profiles.bob]
allowed_resources = ["Small", "Shared"]
cpu_total = 1.3
mem_total = "640 MiB"
"""
_ABSOLUTE: Final = _BASE.replace(
    'reserved = { cpu = 0.5, memory = "1792 MiB" }', 'limit = { cpu = 1.45, memory = "1536 MiB" }'
).replace('mode = "refuse"', 'mode = "scale"')
_TWO_AT_ONCE: Final = """\
import json, threading
from enforcer.client import Client
from enforcer.errors import EnforcerError
from enforcer.model import Claim
from enforcer.quantities import Bytes, Cpus

both, told, floor = threading.Barrier(2), [], Bytes(300 << 20)
def claim(user):
    wanted = Claim(user=user, profile="Shared", cpu_guarantee=Cpus(0), mem_guarantee=floor)
    with Client() as client:
        client.status()
        both.wait()
        try:
            told.append(client.claim(wanted).unit)
        except EnforcerError as error:
            told.append(error.code)

threads = [threading.Thread(target=claim, args=[user]) for user in ("cyd", "dan")]
[one.start() for one in threads]
[one.join() for one in threads]
print(json.dumps(told))
"""
"""Both are for the same 512 MiB, which hold one of them."""


def test_groups_totals_and_modes_come_to_what_the_kernel_holds(lab: Lab) -> None:
    lab.guest.run("groupadd students && useradd --groups students ann")
    lab.configure(_GROUPED)
    _check_groups(lab)
    _check_total(lab)
    _check_one_of_two(lab)
    _check_signal(lab)


def test_a_claim_whose_container_does_not_come_ends_and_takes_its_slice_along(lab: Lab) -> None:
    lab.configure(_BASE.replace("claim_seconds = 300", "claim_seconds = 5"))
    claimed = lab.client.claim(_claim("ann", guaranteed=8))
    assert lab.client.claim(_claim("ann", guaranteed=8)).id == claimed.id, "asked for again"
    assert lab.number(claimed.unit, "memory.min") == 8 * MIB
    until(lambda: not lab.exists(claimed.unit))
    assert lab.number(user_slice("Small", "ann"), "memory.min") == 0
    (receipt,) = lab.client.receipts("ann")
    assert (receipt.reason, receipt.cpu_seconds) == (EndReason.EXPIRED, 0)
    assert not lab.client.leases()


def _check_groups(lab: Lab) -> None:
    """Of a group of the host and one of the hub the most generous counts, each key by itself."""
    assert _refusal(lab, _claim("ann", guaranteed=33)) == "admission.never-fits"
    assert _refusal(lab, _claim("ann", "Wide")) == "profile.not-allowed"
    small = lab.client.claim(_claim("ann", guaranteed=32))
    assert lab.number(small.unit, "memory.min") == 32 * MIB
    lab.client.release(small.id)
    more = lab.client.claim(_claim("ann", guaranteed=96, groups=("course",)))
    assert lab.number(more.unit, "memory.min") == 96 * MIB
    told = lab.client.explain("ann")
    assert "course" in told.model_dump_json()
    # of totals the course says nothing
    assert lab.number(user_slice("Small", "ann"), "memory.max") == 384 * MIB + KERNELS_OWN
    lab.client.release(more.id)


def _check_total(lab: Lab) -> None:
    """What one user's servers may use together, in whichever profiles they are."""
    lab.configure(f"{_GROUPED}{_BOB}")
    first = lab.place(_claim("bob", server="a"))
    assert lab.number(first.unit, "memory.max") == 256 * MIB
    assert lab.number(user_slice("Small", "bob"), "memory.max") == 640 * MIB + KERNELS_OWN
    beyond = _claim("bob", "Shared", server="b", limit=385)
    assert _refusal(lab, beyond) == "admission.user-total"
    second = lab.client.claim(_claim("bob", "Shared", server="b", limit=384))
    assert lab.number(second.unit, "memory.max") == 384 * MIB
    assert lab.client.lease(first.id).state is LeaseState.BOUND
    lab.client.release(second.id)


def _check_one_of_two(lab: Lab) -> None:
    words = ["/opt/enforcer/venv/bin/python", "-c", _TWO_AT_ONCE]
    told = json.loads(lab.guest.run(words, timeout_seconds=120).stdout)
    refused, won = sorted(told)
    assert refused == "admission.no-room"
    assert lab.number(won, "memory.min") == 300 * MIB
    (lease,) = (one for one in lab.client.leases() if one.profile == "Shared")
    lab.client.release(lease.id)


def _check_signal(lab: Lab) -> None:
    """A signal has a right file read too: what Jupyter has, said as such, is on the kernel."""
    lab.guest.write(CONFIG, _ABSOLUTE)
    lab.guest.run(["kill", "-HUP", str(lab.daemon_pid())])
    until(lambda: lab.read(ROOT, "cpu.max") == "145000 100000")
    until(lambda: lab.number(ROOT, "memory.max") == 1536 * MIB)
    assert lab.number(ADOPTED, "memory.max") == 256 * MIB
    # a guarantee that does not fit is cut to what is left, and the reply says so
    scaled = lab.client.claim(_claim("eve", "Shared", guaranteed=512, limit=512))
    again = lab.client.claim(_claim("fay", "Shared", guaranteed=512, limit=512))
    assert (scaled.mem_guarantee, again.mem_guarantee) == (512 * MIB, 0)
    assert lab.number(scaled.unit, "memory.min") == 512 * MIB
    assert lab.number(again.unit, "memory.min") == 0
    (note,) = again.notes
    assert "512 MiB less" in note


def _claim(
    user: str,
    profile: str = "Small",
    *,
    server: str = "",
    guaranteed: int = 0,
    limit: int | None = None,
    groups: tuple[str, ...] = (),
) -> Claim:
    """A claim without guaranteed CPU; memory in MiB."""
    return Claim(
        user=user,
        server=server,
        profile=profile,
        mem_limit=None if limit is None else Bytes(limit * MIB),
        cpu_guarantee=Cpus(0),
        mem_guarantee=Bytes(guaranteed * MIB),
        groups=groups,
    )


def _refusal(lab: Lab, wanted: Claim) -> str:
    with pytest.raises(EnforcerError) as caught:
        lab.client.claim(wanted)
    return caught.value.code
