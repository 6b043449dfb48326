"""What the machine, the engine and the containers may use: percentages become numbers."""

from __future__ import annotations

from typing import Final

from enforcer.config.amounts import Amounts, Workload, floor_bytes
from enforcer.config.document import Adopted, Engine, Machine, Share
from enforcer.config.mistakes import Place, Review
from enforcer.model import AdoptedQuota, Capacity, EngineFloor, GlobalQuota
from enforcer.quantities import (
    CORE,
    LEAST_CPU,
    LEAST_MEMORY,
    MIB,
    PAGE,
    Bytes,
    Cpus,
    default_reserve,
    format_bytes,
    format_cpus,
)

_ADOPTED_TASKS: Final = 16_384
_BOTH: Final = "leave something to Jupyter and something to the host"


def finalize_quota(review: Review, machine: Machine, capacity: Capacity) -> GlobalQuota:
    """Find what jupyter.slice may use; all there is where something is wrong with it."""
    if machine.reserved is not None and machine.limit is not None:
        review.add(("machine", "limit"), {}, "beside reserved", "write one of the two")
    reserved = machine.reserved or Share()
    limit = machine.limit or Share()
    whole_cores = bool(machine.whole_cores)
    cpu = _cpu_quota(review, reserved, limit, capacity, whole_cores=whole_cores)
    memory = _memory_quota(review, reserved, limit, capacity)
    swap = review.bytes(("machine", "swap"), machine.swap, capacity.swap)
    if swap is None:
        swap = Bytes(capacity.swap * memory // capacity.memory // PAGE * PAGE)
    elif swap > capacity.swap:
        review.add(
            ("machine", "swap"),
            machine.swap,
            "is more swap than the host has",
            f"write at most {floor_bytes(capacity.swap)}",
        )
    return GlobalQuota(
        cpu=cpu, memory=memory, swap=swap, tasks=machine.tasks, whole_cores=whole_cores
    )


def _cpu_quota(
    review: Review, reserved: Share, limit: Share, capacity: Capacity, *, whole_cores: bool
) -> Cpus:
    everything = capacity.cpus
    place: Place = ("machine", "limit" if limit.cpu is not None else "reserved", "cpu")
    if limit.cpu is not None:
        quota = review.cpus(place, limit.cpu, everything)
    elif reserved.cpu is not None:
        kept = review.cpus(place, reserved.cpu, everything)
        quota = None if kept is None else Cpus(everything - kept)
    elif whole_cores:
        quota = Cpus(everything - CORE)
    else:
        quota = Cpus(everything - default_reserve(everything))
    if quota is None:
        return everything
    if not 4 * LEAST_CPU <= quota < everything:
        left = format_cpus(max(0, quota))
        review.note(place, left, f"Jupyter would have {left} of {capacity.cores} cores", _BOTH)
        return everything
    if whole_cores and quota % CORE:
        left = format_cpus(quota)
        review.note(
            place,
            left,
            f"Jupyter would have {left} cores, which are not whole",
            "reserve whole cores, or leave whole_cores out",
        )
    return quota


def _memory_quota(review: Review, reserved: Share, limit: Share, capacity: Capacity) -> Bytes:
    everything = capacity.memory
    place: Place = ("machine", "limit" if limit.memory is not None else "reserved", "memory")
    if limit.memory is not None:
        quota = review.bytes(place, limit.memory, everything)
    elif reserved.memory is not None:
        kept = review.bytes(place, reserved.memory, everything)
        quota = None if kept is None else Bytes(everything - kept)
    else:
        # a tenth stays with the host, 512 MiB at least, 2 GiB at most, and never more than half
        tenth = min(max(everything // 10, 512 * MIB), 2048 * MIB)
        quota = Bytes(everything - min(tenth, everything // 2))
    if quota is None:
        return everything
    quota = Bytes(quota // PAGE * PAGE)
    if not 4 * LEAST_MEMORY <= quota < everything:
        left = format_bytes(max(0, quota))
        whole = format_bytes(everything)
        review.note(place, left, f"Jupyter would have {left} of {whole}", _BOTH)
        return everything
    return quota


def finalize_engine(review: Review, engine: Engine, quota: GlobalQuota) -> EngineFloor:
    """Find the engine's floor; percentages are of the global quota."""
    cpu = review.cpus(("engine", "cpu"), engine.cpu, quota.cpu)
    if cpu is None:
        cpu = Cpus(min(max(quota.cpu // 20, CORE // 10), quota.cpu // 4))
    memory = review.bytes(("engine", "memory"), engine.memory, quota.memory)
    if memory is None:
        memory = Bytes(min(384 * MIB, quota.memory // 4) // PAGE * PAGE)
    place = ("engine", "memory_per_container")
    each = review.bytes(place, engine.memory_per_container, quota.memory)
    if each is None:
        each = Bytes(min(16 * MIB, quota.memory // 64) // PAGE * PAGE)
    if cpu > quota.cpu - LEAST_CPU:
        review.add(
            ("engine", "cpu"),
            engine.cpu,
            "leaves no CPU to the containers",
            f"write less than Jupyter's {format_cpus(quota.cpu)} cores",
        )
        cpu = Cpus(0)
    if memory + each > quota.memory - LEAST_MEMORY:
        guilty = "memory_per_container" if engine.memory is None else "memory"
        review.add(
            ("engine", guilty),
            getattr(engine, guilty),
            "leaves no memory to the containers",
            f"write less than Jupyter's {format_bytes(quota.memory)}",
        )
        memory = each = Bytes(0)
    return EngineFloor(cpu=cpu, memory=memory, memory_per_container=each)


def workload(quota: GlobalQuota, engine: EngineFloor) -> Workload:
    """Return what is left to the containers when one of them runs."""
    return Workload(
        cpu=Cpus(quota.cpu - engine.cpu),
        memory=Bytes(quota.memory - engine.memory - engine.memory_per_container),
        swap=quota.swap,
        tasks=quota.tasks,
    )


def finalize_adopted(review: Review, adopted: Adopted, whole: Workload) -> AdoptedQuota:
    """Find the quota of what nobody asked for; percentages are of the workload."""
    amounts = Amounts(review, ("adopted",), whole)
    cpu = amounts.cpu("cpu_limit", adopted.cpu_limit, whole.cpu)
    memory = amounts.memory("mem_limit", adopted.mem_limit)
    swap = amounts.swap("swap_limit", adopted.swap_limit)
    tasks = amounts.tasks("tasks_limit", adopted.tasks_limit)
    if tasks is None:
        tasks = _ADOPTED_TASKS if whole.tasks is None else max(1, whole.tasks // 4)
    return AdoptedQuota(
        cpu=Cpus(max(whole.cpu // 4, LEAST_CPU)) if cpu is None else cpu,
        memory=Bytes(max(whole.memory // 4 // PAGE * PAGE, LEAST_MEMORY))
        if memory is None
        else memory,
        swap=Bytes(whole.swap // 4 // PAGE * PAGE) if swap is None else swap,
        tasks=tasks,
    )
