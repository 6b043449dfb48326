"""What the placement says holds, whatever the hub's configuration adds to the create call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from enforcer.api.types import LeaseReply, PlacementReply
from enforcer.model import LeaseState
from enforcer.quantities import GIB
from spawner.containernames import container_name
from spawner.placement import SERVER_LABEL, USER_LABEL, sealed

PLACEMENT = PlacementReply(
    cgroup_parent="jupyter-workload-Small-alice-default.slice",
    image="lab/base:1",
    labels={"io.jupyter.enforcer.lease": "f" * 32},
    nano_cpus=2_000_000_000,
    memory=4 * GIB,
    memory_swap=4 * GIB,
    pids_limit=500,
    shm_size=64,
    oom_score_adj=-100,
    volumes_ro=["/media/genomes", "/home/alice"],
    home="/home/alice",
)
LEASE = LeaseReply(
    id="f" * 32,
    user="alice",
    server="gpu",
    profile="Small",
    image="Base",
    state=LeaseState.PENDING,
    unit="u.slice",
    cpu_limit=2,
    mem_limit=4 * GIB,
    cpu_guarantee=0,
    mem_guarantee=0,
    created_at=0,
    bound_at=None,
    deadline=None,
    resized_until=None,
    container_id=None,
    sentence="",
    notes=[],
    placement=PLACEMENT,
)
OWN = {
    "CgroupParent": PLACEMENT.cgroup_parent,
    "NanoCpus": 2_000_000_000,
    "Memory": 4 * GIB,
    "MemorySwap": 4 * GIB,
    "PidsLimit": 500,
    "ShmSize": 64,
    "OomScoreAdj": -100,
    "AutoRemove": False,
}
MOUNTS = [
    {"Type": "bind", "Source": "/home/alice", "Target": "/home/alice", "ReadOnly": False},
    {"Type": "bind", "Source": "/media/genomes", "Target": "/media/genomes", "ReadOnly": True},
]


def seal(placement: PlacementReply = PLACEMENT, **arguments: object) -> dict[str, Any]:
    return sealed(arguments, placement, LEASE, "")


@given(
    asked=st.dictionaries(
        st.sampled_from(
            [*OWN, "CpuQuota", "CpuPeriod", "CpuShares", "CpusetCpus", "MemoryReservation"]
        ),
        st.integers() | st.text(),
    )
)
def test_no_limit_of_the_hubs_configuration_survives(asked: dict[str, Any]) -> None:
    assert seal(host_config=asked)["host_config"] == {**OWN, "Mounts": MOUNTS, "Binds": []}


def test_what_is_no_limit_stays_as_the_admin_wrote_it() -> None:
    device = [{"PathOnHost": "/dev/nvidia0"}]
    done = seal(
        name="jupyter-alice",
        environment={"A": "1"},
        labels={"mine": 1, "io.jupyter.enforcer.lease": "forged", USER_LABEL: "forged"},
        host_config={"Devices": device, "NetworkMode": "lab", "RestartPolicy": {"Name": "always"}},
    )
    assert done["host_config"] == {
        **OWN,
        "Devices": device,
        "NetworkMode": "lab",
        "Mounts": MOUNTS,
        "Binds": [],
    }
    assert done["labels"] == {
        "mine": "1",
        "io.jupyter.enforcer.lease": "f" * 32,
        USER_LABEL: "alice",
        SERVER_LABEL: "gpu",
    }
    assert (done["name"], done["environment"], done["image"]) == (
        "jupyter-alice",
        {"A": "1"},
        "lab/base:1",
    )
    assert seal(labels=["mine"])["labels"]["mine"] == ""


def test_the_image_is_the_placements() -> None:
    assert seal(image="somebody/elses")["image"] == "lab/base:1"


def test_the_admins_mounts_stay_but_for_those_in_the_homes_place() -> None:
    other = {"Type": "volume", "Source": "cache", "Target": "/cache"}
    stolen = {"Type": "volume", "Source": "cache", "Target": "/home/alice"}
    done = seal(
        host_config={
            "Mounts": [other, stolen],
            "Binds": ["/srv:/srv:rw", "/old:/home/alice:rw", "anonymous"],
        }
    )["host_config"]
    assert done["Mounts"] == [other, *MOUNTS]
    assert done["Binds"] == ["/srv:/srv:rw", "anonymous"]


def test_without_a_home_or_a_limit_of_processes_there_is_none_to_set() -> None:
    bare = PLACEMENT.model_copy(
        update={"home": None, "pids_limit": None, "shm_size": None, "volumes_ro": []}
    )
    host = seal(bare, host_config={"PidsLimit": 9})["host_config"]
    assert host["PidsLimit"] == 9
    assert "ShmSize" not in host
    assert host["Mounts"] == []


def test_mounts_below_the_home_spread_as_the_admin_wants() -> None:
    done = sealed({}, PLACEMENT, LEASE, "rslave")["host_config"]
    assert done["Mounts"][0]["BindOptions"] == {"Propagation": "rslave"}


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=255)


@given(user=NAMES, server=NAMES, other=NAMES, another=NAMES)
def test_a_containers_name_is_dockers_kind_and_one_servers_only(
    user: str, server: str, other: str, another: str
) -> None:
    name = container_name("jupyter", user, server)
    assert len(name) <= 63
    assert name[0].isalnum()
    assert all(one.isascii() and (one.isalnum() or one == "-") for one in name)
    if (user, server) != (other, another):
        assert name != container_name("jupyter", other, another)


def test_names_that_look_alike_stay_apart() -> None:
    pairs = [
        ("alice", "bob"), ("alice-bob", ""), ("alice--bob", ""), ("alice", "-bob"),
        ("Alice", "bob"), ("alice@x", ""), ("alice.x", ""), ("alice_x", ""), ("a" * 255, ""),
        ("a" * 254, ""), ("ä", ""), ("é", ""),
    ]  # fmt: skip
    assert len({container_name("jupyter", *pair) for pair in pairs}) == len(pairs)
    assert container_name("jupyter", "alice", "gpu").startswith("jupyter-alice-gpu-")


def test_what_only_the_hub_needs_is_not_loaded_for_the_pages() -> None:
    program = (
        "import sys, spawner; assert 'dockerspawner' not in sys.modules;"
        " from importlib.metadata import EntryPoint as E;"
        " E('enforcer', 'spawner:DockerSystemProfileSpawner', 'jupyterhub.spawners').load();"
        " assert 'dockerspawner' in sys.modules"
    )
    checkout = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=checkout, timeout=120)
