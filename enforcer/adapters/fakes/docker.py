"""The port Docker in memory, and what people do at its command line."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace

from enforcer.adapters.fakes.tree import CgroupTree, Scope
from enforcer.adapters.fakes.trouble import Trouble
from enforcer.errors import UnavailableError
from enforcer.model import Container, ContainerLimits
from enforcer.names import ADOPTED, UnitName


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What `FakeDocker.run` is told besides the name; an empty parent means daemon.json's."""

    cgroup_parent: str = ""
    lease_id: str | None = None
    limits: ContainerLimits = field(default_factory=ContainerLimits)
    image: str = "image:latest"
    oom_score_adj: int = 0


class FakeDocker:
    """dockerd with its containers. `trouble` makes it fail or hang; its containers run on."""

    def __init__(self, cgroups: CgroupTree, now: Callable[[], float]) -> None:
        self._cgroups = cgroups
        self._now = now
        self._containers: dict[str, Container] = {}
        self._scores: dict[str, int] = {}
        self._events: list[str] = []
        self._stopped: set[str] = set()
        self._told = asyncio.Event()
        self.trouble = Trouble("docker")
        self.default_parent: UnitName = ADOPTED
        """daemon.json's cgroup-parent."""
        self.updates: list[tuple[str, ContainerLimits]] = []
        """Every update that was asked for through the port."""
        self.lists = 0
        """How often the containers were listed through the port."""
        self.unread: dict[str, str] = {}
        """Containers that cannot be inspected, and why: the port tells what the list has."""

    async def containers(self) -> Mapping[str, Container]:
        """Return every container by id, stopped ones too."""
        self.lists += 1
        await self.trouble.pass_through()
        return {one: self._told_of(container) for one, container in self._containers.items()}

    async def update(self, container_id: str, limits: ContainerLimits) -> bool:
        """Set a container's own limits; False if there is no such running container."""
        self.updates.append((container_id, limits))
        await self.trouble.pass_through()
        if container_id in self.unread:
            raise UnavailableError("docker.error", self.unread[container_id])
        container = self._containers.get(container_id)
        if container is None or not container.running:
            return False
        self.change(container_id, limits)
        return True

    async def events(self) -> AsyncIterator[str]:
        """Yield "" at first and after every `restart`, then the ids of containers that changed."""
        self._tell("")
        while True:
            await self._told.wait()
            self._told.clear()
            events, self._events = self._events, []
            for event in dict.fromkeys(events):
                yield event

    def stopped(self) -> frozenset[str]:
        """Return the containers that were stopped."""
        return frozenset(self._stopped)

    def run(self, name: str, wanted: Wanted | None = None) -> str:
        """``docker run``: return the new container's id."""
        container_id = self.create(name, wanted)
        self.start(container_id)
        return container_id

    def create(self, name: str, wanted: Wanted | None = None) -> str:
        """``docker create``: return the new container's id."""
        how = wanted or Wanted()
        container_id = hashlib.sha256(f"{name} {len(self._scores)}".encode()).hexdigest()
        self._scores[container_id] = how.oom_score_adj
        self._containers[container_id] = Container(
            id=container_id,
            name=name,
            image=how.image,
            running=False,
            cgroup_parent=how.cgroup_parent,
            lease_id=how.lease_id,
            created_at=self._now(),
            docker=how.limits,
        )
        self._tell(container_id)
        return container_id

    def start(self, container_id: str) -> None:
        """``docker start``; a slice that is missing is made without limits."""
        if container_id not in self._cgroups.scopes:
            self.begin(container_id)
        container = self._containers[container_id]
        pid = 1000 + list(self._scores).index(container_id)
        self._containers[container_id] = replace(container, running=True, pid=pid)
        self._stopped.discard(container_id)
        self._tell(container_id)

    def begin(self, container_id: str) -> None:
        """The first half of a start: the scope is there, and Docker does not say so yet."""
        container = self._containers[container_id]
        self._cgroups.begin(
            Scope(
                container_id=container_id,
                slice=UnitName(container.cgroup_parent) or self.default_parent,
                limits=container.docker,
                oom_score_adj=self._scores[container_id],
            )
        )

    def stop(self, container_id: str) -> None:
        """``docker stop``."""
        self._stopped.add(container_id)
        self.exit(container_id)

    def exit(self, container_id: str) -> None:
        """Have a container end by itself."""
        self._cgroups.end(container_id)
        self.ended(container_id)

    def remove(self, container_id: str) -> None:
        """``docker rm --force``."""
        if self._containers[container_id].running:
            self.stop(container_id)
        del self._containers[container_id]
        self._tell(container_id)

    def change(self, container_id: str, limits: ContainerLimits) -> None:
        """``docker update``: of what is None, CPU and memory stay; the limit of tasks goes.

        Swap counts with memory only, and dockerd believes that its limit goes too: it does not. Of
        memory.high it knows nothing.
        """
        container = self._containers[container_id]
        before = container.docker
        after = ContainerLimits(
            cpu=before.cpu if limits.cpu is None else limits.cpu,
            memory=before.memory if limits.memory is None else limits.memory,
            swap=before.swap if limits.memory is None else limits.swap,
            tasks=limits.tasks,
            cpus=limits.cpus or before.cpus,
        )
        self._containers[container_id] = replace(container, docker=after)
        scope = self._cgroups.scopes.get(container_id)
        if scope is not None:
            swap = scope.limits.swap if after.swap is None else after.swap
            scope.limits = replace(
                after,
                swap=swap,
                memory_high=scope.limits.memory_high,
                cpus=limits.cpus or scope.limits.cpus,
            )
            self._cgroups.tell(scope.slice, "memory.max")
        self._tell(container_id)

    def ended(self, container_id: str) -> None:
        """Note that a container's processes are gone, whoever killed them."""
        container = self._containers.get(container_id)
        if container is not None:  # a scope may have been declared without one
            self._containers[container_id] = replace(container, running=False, pid=None)
            self._tell(container_id)

    def restart(self) -> None:
        """Restart dockerd with live-restore: containers run on, events begin anew."""
        self._tell("")

    def _told_of(self, container: Container) -> Container:
        why = self.unread.get(container.id)
        if why is None:
            return container
        return replace(container, cgroup_parent="", pid=None, docker=ContainerLimits(), unread=why)

    def _tell(self, container_id: str) -> None:
        self._events.append(container_id)
        self._told.set()
