"""What dockerd says, as typed values: the Engine API's list, inspect and events.

Whoever may run containers chooses their names and labels, so nothing here is believed unchecked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from enforcer.model import LEASE_LABEL, PERIOD_USEC, Container, ContainerLimits
from enforcer.quantities import CORE, Bytes, Cpus

_ID: Final = re.compile(r"[0-9a-f]{64}")
_LEASE_ID: Final = re.compile(r"[0-9a-f]{32}")
CREATED: Final = "created"
_RUNNING: Final = ("running", "paused")
_NANO_PER_USEC: Final = 1000
_UNLIMITED: Final = -1
_ENDING: Final = frozenset({"2", "3", "9", "15"})
"""SIGINT, SIGQUIT, SIGKILL, SIGTERM: what an image may have as its STOPSIGNAL, and what follows."""

EVENT_FILTERS: Final = {
    "type": ["container"],
    "event": [
        "create",
        "start",
        "kill",
        "die",
        "destroy",
        "update",
        "oom",
        "rename",
        "pause",
        "unpause",
    ],
}
"""What changes a container; not, for instance, every command executed in one."""


@dataclass(frozen=True, slots=True)
class Event:
    """What dockerd told: about which container, "" for any, and Docker's word for it.

    signal: the number of one that Docker sent (``kill``): ``docker stop`` and ``rm --force`` begin
    with that, long before they are done.
    """

    container_id: str = ""
    action: str = ""
    signal: str = ""

    @property
    def stops(self) -> bool:
        """Whether somebody has Docker end the container."""
        return self.action == "kill" and self.signal in _ENDING


@dataclass(frozen=True, slots=True)
class Listed:
    """A container as the list shows it: without parent, pid and limits. state: Docker's word."""

    container: Container
    state: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """A container as inspect shows it. by_quota: its CPU limit is a quota, not nano CPUs.

    Docker refuses to change the one where the other was set.
    """

    container: Container
    by_quota: bool


def parse_list(raw: object) -> dict[str, Listed]:
    """Read ``GET /containers/json``: id → container. What has no id is left out."""
    found: dict[str, Listed] = {}
    for one in raw if isinstance(raw, list) else []:
        fields = _mapping(one)
        container_id = _text(fields, "Id")
        if not _ID.fullmatch(container_id):
            continue
        names = fields.get("Names")
        name = names[0] if isinstance(names, list) and names else ""
        state = _text(fields, "State")
        found[container_id] = Listed(
            Container(
                id=container_id,
                name=name.lstrip("/") if isinstance(name, str) else "",
                image=_text(fields, "Image"),
                running=state in _RUNNING,
                cgroup_parent="",
                lease_id=_lease_id(_mapping(fields.get("Labels"))),
                created_at=float(_number(fields, "Created")),
            ),
            state,
        )
    return found


def parse_inspect(raw: object, listed: Container) -> Inspected:
    """Read ``GET /containers/{id}/json``; what it does not say is as it was listed."""
    fields = _mapping(raw)
    state, config = _mapping(fields.get("State")), _mapping(fields.get("Config"))
    host = _mapping(fields.get("HostConfig"))
    running = state.get("Running") is True and state.get("Restarting") is not True
    container = Container(
        id=listed.id,
        name=_text(fields, "Name").lstrip("/") or listed.name,
        image=_text(config, "Image") or listed.image,
        running=running,
        cgroup_parent=_text(host, "CgroupParent"),
        lease_id=_lease_id(_mapping(config.get("Labels"))),
        pid=(_number(state, "Pid") or None) if running else None,
        created_at=listed.created_at,
        docker=parse_limits(host),
    )
    by_quota = _number(host, "CpuQuota") > 0 or _number(host, "CpuPeriod") > 0
    return Inspected(container, by_quota)


def parse_limits(host: Mapping[str, object]) -> ContainerLimits:
    """Read a HostConfig's limits; Docker's 0 and −1 are no limit."""
    nano, quota = _number(host, "NanoCpus"), _number(host, "CpuQuota")
    cpu = None
    if nano > 0:
        cpu = Cpus(nano // _NANO_PER_USEC)
    elif quota > 0:
        cpu = Cpus(quota * CORE // (_number(host, "CpuPeriod") or PERIOD_USEC))
    memory, both = _number(host, "Memory"), _number(host, "MemorySwap")
    swap = None
    if memory > 0 and both != _UNLIMITED:
        # Left out, it is twice the memory (docs.docker.com, --memory-swap).
        swap = Bytes(max(0, both - memory) if both > 0 else memory)
    tasks = _number(host, "PidsLimit")
    return ContainerLimits(
        cpu=cpu,
        memory=Bytes(memory) if memory > 0 else None,
        swap=swap,
        tasks=tasks if tasks > 0 else None,
        cpus=_text(host, "CpusetCpus"),
    )


def update_body(limits: ContainerLimits, *, by_quota: bool) -> dict[str, int | str]:
    """Return the body of ``POST /containers/{id}/update``.

    A CPU or memory limit cannot be taken away by an update, so None leaves them. Memory comes with
    swap in the same body: each alone is refused where it would cross the other's old value. An
    empty list of CPUs would be taken for none.
    """
    body: dict[str, int | str] = {
        "PidsLimit": _UNLIMITED if limits.tasks is None else limits.tasks,
    }
    if limits.cpu is not None and by_quota:
        body["CpuPeriod"] = PERIOD_USEC
        body["CpuQuota"] = limits.cpu * PERIOD_USEC // CORE
    elif limits.cpu is not None:
        body["NanoCpus"] = limits.cpu * _NANO_PER_USEC
    if limits.memory is not None:
        body["Memory"] = limits.memory
        body["MemorySwap"] = _UNLIMITED if limits.swap is None else limits.memory + limits.swap
    if limits.cpus:
        body["CpusetCpus"] = limits.cpus
    return body


def parse_event(line: bytes) -> Event:
    """Read one line of ``GET /events``; what cannot be read may be about any container."""
    try:
        event = _mapping(json.loads(line))
    except (ValueError, RecursionError):
        return Event()
    actor = _mapping(event.get("Actor"))
    container_id = _text(actor, "ID")
    if not _ID.fullmatch(container_id):
        return Event()
    signal = _text(_mapping(actor.get("Attributes")), "signal")
    return Event(container_id, _text(event, "Action"), signal)


def _lease_id(labels: Mapping[str, object]) -> str | None:
    found = _text(labels, LEASE_LABEL)
    return found if _LEASE_ID.fullmatch(found) else None


def _mapping(raw: object) -> Mapping[str, object]:
    return raw if isinstance(raw, dict) else {}


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _number(fields: Mapping[str, object], name: str) -> int:
    value = fields.get(name)
    return value if type(value) is int else 0
