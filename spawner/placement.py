"""From the daemon's placement to Docker's create call: what it says holds, whatever else was said.

The hub's configuration may add anything to the call (devices, networks, ulimits), but no limit:
where the two disagree, the placement wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from enforcer.api.types import LeaseReply, PlacementReply

USER_LABEL: Final = "io.jupyter.enforcer.user"
SERVER_LABEL: Final = "io.jupyter.enforcer.server"

_NOT_THE_HUBS: Final = (
    "CpuCount",
    "CpuPercent",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "KernelMemory",
    "KernelMemoryTCP",
    "MemoryReservation",
    "MemorySwappiness",
    "OomKillDisable",
    # The hub starts and stops containers; one that comes back by itself is nobody's.
    "RestartPolicy",
)
"""Keys of Docker's HostConfig that would bend a limit, or bring a container back without one."""

Arguments = dict[str, Any]
"""Keyword arguments of docker's ``create_container``; its host_config is Docker's JSON."""


def sealed(
    arguments: Mapping[str, Any], placement: PlacementReply, lease: LeaseReply, propagation: str
) -> Arguments:
    """Return the arguments with everything the placement says in place.

    propagation: how mounts below the home spread, as Docker has it; empty: its own default.
    """
    asked = dict(arguments.get("host_config") or {})
    host = {key: value for key, value in asked.items() if key not in _NOT_THE_HUBS}
    host |= _limits(placement)
    mounts = _mounts(placement, propagation)
    targets = {one["Target"] for one in mounts}
    host["Mounts"] = [
        *(one for one in host.get("Mounts") or () if one.get("Target") not in targets),
        *mounts,
    ]
    host["Binds"] = [one for one in host.get("Binds") or () if _bound_to(one) not in targets]
    labels = _labels(arguments.get("labels"))
    labels |= {USER_LABEL: lease.user, SERVER_LABEL: lease.server, **placement.labels}
    return {**arguments, "image": placement.image, "labels": labels, "host_config": host}


def _limits(placement: PlacementReply) -> dict[str, Any]:
    limits: dict[str, Any] = {
        "CgroupParent": placement.cgroup_parent,
        "NanoCpus": placement.nano_cpus,
        "Memory": placement.memory,
        "MemorySwap": placement.memory_swap,
        "OomScoreAdj": placement.oom_score_adj,
        # The spawner removes it, once it has seen how it ended.
        "AutoRemove": False,
    }
    if placement.pids_limit is not None:
        limits["PidsLimit"] = placement.pids_limit
    if placement.shm_size is not None:
        limits["ShmSize"] = placement.shm_size
    return limits


def _mounts(placement: PlacementReply, propagation: str) -> list[dict[str, Any]]:
    """Return the home and the shared directories, each at its own path.

    As mounts of type "bind" and not as Docker's older binds: these make a missing directory, as
    root.
    """
    mounts: list[dict[str, Any]] = []
    if placement.home is not None:
        home: dict[str, Any] = _mount(placement.home, read_only=False)
        if propagation:
            home["BindOptions"] = {"Propagation": propagation}
        mounts.append(home)
    shared = dict.fromkeys(path for path in placement.volumes_ro if path != placement.home)
    mounts += [_mount(path, read_only=True) for path in shared]
    return mounts


def _mount(path: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": path, "Target": path, "ReadOnly": read_only}


def _bound_to(bind: str) -> str:
    """Return the container's side of ``/host:/container:mode``."""
    parts = bind.split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _labels(given: object) -> dict[str, str]:
    """Docker's library takes labels as a mapping, or as a list of names."""
    if isinstance(given, Mapping):
        return {str(key): str(value) for key, value in given.items()}
    return {str(name): "" for name in given} if isinstance(given, list | tuple) else {}
