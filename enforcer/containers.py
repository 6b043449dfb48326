"""What each container's own limits ought to be, and what runs where it should not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from enforcer.model import (
    Config,
    Container,
    ContainerLimits,
    DesiredContainer,
    DesiredSlice,
    Lease,
    Observed,
    ReportDrift,
)
from enforcer.names import (
    ENGINE,
    ROOT,
    WORKLOAD,
    UnitName,
    ancestors,
    cgroup_path,
    profile_slice,
)
from enforcer.quantities import Bytes
from enforcer.slices import cpu_list

_SCORE_LEAST: Final = -999
"""−1000 would take the process out of the OOM killer's sight altogether."""


def desired_containers(
    config: Config,
    leases: Collection[Lease],
    observed: Observed,
    slices: Mapping[UnitName, DesiredSlice],
) -> Mapping[str, DesiredContainer]:
    """Return the own limits of every running container that is a lease's, or is misplaced.

    Not of one that is starting: PID 1 writes a scope's device rules again whenever it is told
    anything of it, and runc, which is replacing them just then, gives up (seen with runc 1.1.15).
    Nothing of the user's runs in it yet.

    leases: those whose containers count, released ones with a leaf kept among them. slices: before
    any CPU cap, since a container is told its lease's limit; the cap is the leaf's alone.
    """
    known = {lease.id: lease for lease in leases}
    shared = _shared(config, leases)
    every_cpu = cpu_list(config.capacity.last_cpus(config.capacity.cores))
    found = {}
    for container in (observed.containers or {}).values():
        if not container.running or container.starting:
            continue
        lease = known.get(container.lease_id or "")
        if _misplaced(container, shared):
            found[container.id] = _adopted(config, container)
        elif lease is not None and _is_of(container, lease):
            found[container.id] = _of_lease(container, lease, slices, every_cpu)
    return found


def container_reports(
    config: Config, leases: Collection[Lease], observed: Observed
) -> tuple[ReportDrift, ...]:
    """Return which containers are misplaced, or cannot be inspected.

    One that runs cannot change its cgroup. Of one that is starting Docker will tell in a moment.
    """
    shared = _shared(config, leases)
    reports = []
    for container in (observed.containers or {}).values():
        if container.starting:
            continue
        if container.unread:
            reports.append(
                ReportDrift(
                    what="container-unread",
                    subject=container.id,
                    message=f"container {container.name} cannot be inspected: {container.unread}",
                    command=f"docker inspect {container.id}",
                )
            )
        if container.running and _misplaced(container, shared):
            why, command = _how_it_came_there(container)
            reports.append(
                ReportDrift(
                    what="container-outside",
                    subject=container.id,
                    message=f"container {container.name} runs {_where(container)}: {why}",
                    command=command,
                )
            )
    return tuple(reports)


def engine_reports(observed: Observed) -> tuple[ReportDrift, ...]:
    """Return which of the engine's services run outside its slice."""
    return tuple(
        ReportDrift(
            what="engine-outside",
            subject=place.service,
            message=f"{place.service} runs in {place.cgroup}, not in {ENGINE}",
            command=f"systemctl restart {place.service}",
        )
        for place in observed.engine
        if place.cgroup is not None and not f"{place.cgroup}/".startswith(f"{cgroup_path(ENGINE)}/")
    )


def oom_score_adj(slices: Mapping[UnitName, DesiredSlice], unit: UnitName, guarantee: Bytes) -> int:
    """Return how far the OOM killer is to spare a container: −999 to 0.

    In proportion to its guarantee, of the smallest limit above its leaf: memory.min alone does not
    keep the killer from choosing it.
    """
    limits = (slices[above].limits.memory_max for above in ancestors(unit) if above in slices)
    within = min((limit for limit in limits if limit is not None), default=0)
    return max(_SCORE_LEAST, -round(1000 * guarantee / within)) if within else 0


def _shared(config: Config, leases: Iterable[Lease]) -> frozenset[UnitName]:
    """Return the slices that others' limits and guarantees are counted in, or the engine runs in.

    A container that runs in one itself has no limit there but everybody's.
    """
    above = {unit for lease in leases for unit in ancestors(lease.unit)}
    return frozenset({ROOT, ENGINE, WORKLOAD, *above, *map(profile_slice, config.profiles)})


def _misplaced(container: Container, shared: Collection[UnitName]) -> bool:
    """Tell whether a running container is outside jupyter.slice, or in a shared slice itself.

    One whose scope was not found yet, because it is just starting, is taken to be in its place.
    """
    if container.scope is None:
        return False
    path = container.scope.split("/")
    return path[0] != ROOT or path[-2] in shared


def _where(container: Container) -> str:
    path = (container.scope or "").split("/")
    return f"in {path[-2]} itself" if path[0] == ROOT else f"outside {ROOT}, in {container.scope}"


def _is_of(container: Container, lease: Lease) -> bool:
    """A label is worth something only in the lease's leaf, and if it has no other container."""
    return container.cgroup_parent == lease.unit and lease.container_id in {None, container.id}


def _of_lease(
    container: Container, lease: Lease, slices: Mapping[UnitName, DesiredSlice], every_cpu: str
) -> DesiredContainer:
    """A lease is promised shares of all CPUs, and is slowed down at the leaf alone."""
    leaf = slices[lease.unit].limits
    guarantee = lease.grant.mem_guarantee if lease.live else Bytes(0)
    return DesiredContainer(
        id=container.id,
        limits=ContainerLimits(
            cpu=leaf.cpu_quota,
            memory=leaf.memory_max,
            swap=leaf.swap_max,
            tasks=leaf.tasks_max,
            cpus=every_cpu,
        ),
        oom_score_adj=oom_score_adj(slices, lease.unit, guarantee),
        leaf=lease.unit,
    )


def _adopted(config: Config, container: Container) -> DesiredContainer:
    """On which CPUs it runs, and from where it is slowed down, is its owner's business."""
    adopted, its_own = config.adopted, container.kernel or ContainerLimits()
    limits = ContainerLimits(
        cpu=adopted.cpu,
        memory=adopted.memory,
        swap=adopted.swap,
        tasks=adopted.tasks,
        memory_high=its_own.memory_high,
        cpus=its_own.cpus,
    )
    return DesiredContainer(id=container.id, limits=limits, oom_score_adj=None)


def _how_it_came_there(container: Container) -> tuple[str, str]:
    """Return why, in words, and the command. One without a parent goes where daemon.json says."""
    if container.unread:
        return "Docker cannot tell why", f"docker stop {container.id}"
    if container.cgroup_parent:
        why = f"it was started with --cgroup-parent={container.cgroup_parent}: start it without"
        return why, f"docker stop {container.id}"
    return "it is older than the daemon's cgroup-parent", f"docker restart {container.id}"
