"""One snapshot of the world a tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from enforcer.controller.world import World
from enforcer.model import Container, ContainerLimits, EnginePlace, Observed, Usage
from enforcer.names import FIXED, UnitName, ancestors

_Reading = tuple[ContainerLimits, Usage, int | None] | None
_STARTING_SECONDS = 60.0
"""After that, one that Docker does not call running is none that it starts."""


class Observer:
    """Takes the snapshots. What has not moved since the last one is the very same value again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._joined: dict[str, tuple[Container, str | None, _Reading, Container]] = {}
        self._containers: Mapping[str, Container] = {}
        self._starting: dict[str, float] = {}
        """Containers whose scope was seen before Docker called them running → when, monotonic."""

    def observe(
        self,
        containers: Mapping[str, Container] | None,
        engine: tuple[EnginePlace, ...],
        written: Mapping[UnitName, float],
    ) -> Observed:
        """Read the kernel, and join what it shows with what Docker last told.

        containers: as Docker listed them; None while it does not answer.
        written: units whose control files were written → monotonic seconds.
        """
        taken_at = self._world.clock.monotonic()
        host, weights = self._world.kernel.host()
        return Observed(
            taken_at=taken_at,
            at=self._world.clock.now(),
            cgroups=self._world.kernel.slices(),
            containers=None if containers is None else self._with_scopes(containers),
            scopes=self.scopes(containers),
            engine=engine,
            host_weights=weights,
            host=host,
            drift_seen_at=written,
            stopped=self._world.docker.stopped(),
            unlasting=frozenset(unit for unit in FIXED if not self._world.systemd.is_lasting(unit)),
        )

    def observe_path(
        self,
        leaf: UnitName,
        containers: Mapping[str, Container] | None,
        written: Mapping[UnitName, float],
    ) -> Observed:
        """Read a leaf and the slices above it, no other: it costs the same with many leases.

        What was written to since they were last read, the kernel has told of by then.
        """
        path = (*reversed(ancestors(leaf)), leaf)
        found = ((unit, self._world.kernel.slice(unit, afresh=False)) for unit in path)
        return Observed(
            taken_at=self._world.clock.monotonic(),
            at=self._world.clock.now(),
            cgroups={unit: cgroup for unit, cgroup in found if cgroup is not None},
            containers=containers,
            scopes=self.scopes(containers),
            drift_seen_at=written,
        )

    def scopes(self, containers: Mapping[str, Container] | None) -> frozenset[str]:
        """Return where containers run while Docker does not tell (`Observed.scopes`)."""
        return frozenset(self._world.kernel.scopes().values() if containers is None else ())

    def _with_scopes(self, containers: Mapping[str, Container]) -> Mapping[str, Container]:
        scopes = self._world.kernel.scopes()
        before, self._joined = self._joined, {}
        self._note_starting(containers, scopes)
        moved = before.keys() != containers.keys()
        for container_id, container in containers.items():
            path = scopes.get(container_id)
            reading = None if path is None else self._world.kernel.scope(path)
            known = before.get(container_id)
            starting = container.starting or self._is_starting(container_id)
            if (
                known is None
                or known[0] is not container
                or known[1] != path
                or known[2] is not reading
                or known[3].starting != starting
            ):
                moved = True
                joined = replace(_with_scope(container, path, reading), starting=starting)
                known = (container, path, reading, joined)
            self._joined[container_id] = known
        if moved:
            self._containers = {one: joined[3] for one, joined in self._joined.items()}
        return self._containers

    def _note_starting(
        self, containers: Mapping[str, Container], scopes: Mapping[str, str]
    ) -> None:
        now = self._world.clock.monotonic()
        self._starting = {
            one.id: self._starting.get(one.id, now)
            for one in containers.values()
            if one.id in scopes and not one.running
        }

    def _is_starting(self, container_id: str) -> bool:
        since = self._starting.get(container_id)
        if since is None:
            return False
        return self._world.clock.monotonic() - since < _STARTING_SECONDS


def _with_scope(container: Container, path: str | None, reading: _Reading) -> Container:
    if reading is None:  # it does not run, or ended since
        return replace(container, running=False, scope=None)
    limits, usage, oom_score_adj = reading
    parent = container.cgroup_parent
    if container.unread and not parent and path is not None:  # the kernel knows where it runs
        parent = path.rpartition("/")[0].rpartition("/")[2]
    return replace(
        container,
        cgroup_parent=parent,
        running=True,
        scope=path,
        kernel=limits,
        usage=usage,
        oom_score_adj=oom_score_adj,
    )
