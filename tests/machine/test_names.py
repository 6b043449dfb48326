"""User names that were never meant to become the name of a slice, from the claim to the receipt."""

from __future__ import annotations

import itertools
import json
import shlex
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from enforcer.errors import InvalidError
from enforcer.model import Claim, EndReason, LeaseState
from enforcer.names import MAX_UNIT_BYTES, UnitName, cgroup_path
from enforcer.quantities import CORE, MIB, Bytes, Cpus
from tests.machine.lab import CHECKOUT, Lab, until
from tests.machine.test_machine import mostly_on_one

NAMES: Final = (
    ("a-b", "c"),
    ("a", "b-c"),
    ("a/b", "c"),
    ("a", "b/c"),
    ("a.b", ""),
    ("a@b", ""),
    ("a b", ""),
    ("a_b", ""),
    ("a%b", ""),
    ("a\\x2db", ""),
    ("..", ""),
    ("../../etc", "passwd"),
    ("-", "-"),
    ("--help", ""),
    ("default", ""),
    ("default", "default"),
    ("adopted", ""),
    ("engine", ""),
    ("$(touch /root/owned)", ""),
    ('"; drop table leases; --', ""),
    ("Ünïcödé", "日本"),
    ("Unicode", "日本"),
    ("x" * 255, ""),
    ("x" * 254, ""),
    ("é" * 255, "é" * 255),
    ("é" * 255, "é" * 254 + "è"),
    ("\N{PILE OF POO}", ""),
)
RUN: Final = (
    ("a-b", "c"),
    ("a", "b-c"),
    ("é" * 255, "é" * 255),
    ("$(touch /root/owned)", ""),
)
REFUSED: Final = ("a\nb", "a\0b", "", "x" * 256, "\x1b[2J", "\x7f", "\ud800")
PROFILES: Final = ("adopted", "engine", "Small/../Wide", "x" * 255)


@pytest.mark.long
@mostly_on_one
def test_hostile_names_are_escaped_from_the_claim_to_the_receipt(lab: Lab) -> None:
    lab.configure(_configuration())
    leases = {one: lab.client.claim(_claim(*one)) for one in NAMES}
    units = [lease.unit for lease in leases.values()]
    assert len(set(units)) == len(NAMES), "two of them share a slice"
    assert all(len(unit.encode()) <= MAX_UNIT_BYTES for unit in units)
    paths = [cgroup_path(UnitName(unit)) for unit in units]
    assert not any(
        one.startswith(f"{other}/") for one, other in itertools.permutations(paths, 2)
    ), "one lies in another"
    assert all(path.count("/") == 4 for path in paths), "one is deeper than its parts"
    for unit in units:
        assert lab.number(unit, "memory.max") == 32 * MIB
        assert lab.number(unit, "memory.min") == 4 * MIB
    with ThreadPoolExecutor() as pool:
        bound = list(pool.map(lambda one: lab.run(leases[one], ("sleep", "100000")), RUN))
    for one, container in zip(RUN, bound, strict=True):
        lease = lab.client.lease(leases[one].id, 30, LeaseState.PENDING)
        assert (lease.state, lease.container_id) == (LeaseState.BOUND, container)
        assert lab.read(lease.unit, "cgroup.events").startswith("populated 1")
    for (user, server), lease in leases.items():
        told = lab.client.explain(user, server)
        assert told.lease is not None
        assert told.lease.id == lease.id
        assert told.levels[0].unit == lease.unit
    lab.guest.run("sleep 1.5")  # a tick, and a scrape of what it published
    assert _measured(lab) >= set(NAMES)
    # The command line writes them so that no terminal takes them for anything else.
    user, server = NAMES[0]
    words = shlex.join(["enforcer", "explain", user, "--server", server, "--json"])
    assert json.loads(lab.guest.run(words).stdout)["lease"]["id"] == leases[NAMES[0]].id
    # Released before its container goes, or the lease would end by itself meanwhile.
    for lease in leases.values():
        lab.client.release(lease.id)
    for container in bound:
        lab.docker(f"rm --force {container}")
    receipts = {(one.user, one.server): one for one in lab.client.receipts()}
    assert receipts.keys() == set(NAMES)
    assert all(one.reason in {EndReason.STOPPED, EndReason.CANCELLED} for one in receipts.values())
    until(lambda: not any(lab.exists(unit) for unit in units))
    assert lab.guest.run("test -e /root/owned", check=False).code != 0


def test_names_no_slice_could_have_are_refused_with_a_reason(lab: Lab) -> None:
    for name in REFUSED:
        with pytest.raises(InvalidError) as caught:
            lab.client.claim(_claim(name, ""))
        assert caught.value.code == "name.invalid", name
        assert caught.value.hint, name
        if name:
            with pytest.raises(InvalidError):
                lab.client.claim(_claim("ann", name))
    assert not lab.client.leases()


def test_profiles_may_be_called_as_our_own_slices_are(lab: Lab) -> None:
    lab.configure(_configuration())
    units = []
    for index, profile in enumerate(PROFILES):
        lease = lab.client.claim(_claim(f"user-{index}", "", profile))
        assert lease.profile == profile
        assert lab.number(lease.unit, "memory.max") == 32 * MIB
        units.append(lease.unit)
    assert len(set(units)) == len(PROFILES)
    assert not any(unit.startswith("jupyter-workload-adopted-") for unit in units)


def _configuration() -> str:
    text = (CHECKOUT / "tests/machine/enforcer.toml").read_text()
    profiles = "".join(
        f'[resource_profiles.{json.dumps(name)}]\ncpu_limit = 0.5\nmem_limit = "256 MiB"\n\n'
        for name in PROFILES
    )
    allowed = ", ".join(json.dumps(name) for name in PROFILES)
    text = text.replace("[docker_profiles]", f"{profiles}[docker_profiles]")
    return text.replace('"Shared"]', f'"Shared", {allowed}]')


def _claim(user: str, server: str, profile: str = "Small") -> Claim:
    return Claim(
        user=user,
        server=server,
        profile=profile,
        cpu_limit=Cpus(CORE // 10),
        mem_limit=Bytes(32 * MIB),
        cpu_guarantee=Cpus(CORE // 100),
        mem_guarantee=Bytes(4 * MIB),
    )


def _measured(lab: Lab) -> set[tuple[str, str]]:
    """Return whom the metrics tell of, read as Prometheus reads them."""
    text = lab.guest.run("curl --silent http://127.0.0.1:9753/metrics").stdout
    return {
        (sample.labels["user"], sample.labels["server"])
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "enforcer_lease_memory_limit_bytes"
    }
