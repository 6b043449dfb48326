"""The resource profiles: what one lease may use, and all leases of a profile together."""

from __future__ import annotations

from typing import Final

from enforcer.config.amounts import Amounts, Workload, check_total
from enforcer.config.document import Profile
from enforcer.config.mistakes import Place, Review
from enforcer.errors import InvalidError
from enforcer.model import ResourceProfile
from enforcer.names import check_name
from enforcer.quantities import Bytes, format_bytes, format_cpus

_TASKS: Final = 4096
"""Enough for any notebook, and a fork bomb stays in its own container."""


def finalize_profiles(
    review: Review, profiles: dict[str, Profile | None], whole: Workload
) -> dict[str, ResourceProfile]:
    """Return the profiles that have a CPU and a memory limit."""
    found = {}
    for name, profile in profiles.items():
        place: Place = ("resource_profiles", name)
        try:
            check_name(name, "profile")
        except InvalidError as error:
            review.refused(place, name, error)
        if profile is not None:
            one = _profile(Amounts(review, place, whole), name, profile)
            if one is not None:
                found[name] = one
    return found


def _profile(amounts: Amounts, name: str, profile: Profile) -> ResourceProfile | None:
    cpu = amounts.cpu("cpu_limit", profile.cpu_limit)
    memory = amounts.memory("mem_limit", profile.mem_limit)
    swap = amounts.swap("swap_limit", profile.swap_limit)
    cpu_total = amounts.cpu("cpu_total", profile.cpu_total)
    mem_total = amounts.memory("mem_total", profile.mem_total)
    tasks_total = amounts.tasks("tasks_total", profile.tasks_total)
    tasks = amounts.tasks("tasks_limit", profile.tasks_limit)
    if tasks is None:
        tasks = min(one for one in (_TASKS, tasks_total, amounts.whole.tasks) if one is not None)
    throttle = _part(amounts, "mem_throttle", profile.mem_throttle, memory)
    shm_size = _part(amounts, "shm_size", profile.shm_size, memory)
    if cpu is None:
        amounts.missing("cpu_limit", "write how many cores one container may use")
    if memory is None:
        amounts.missing("mem_limit", "write how many GiB one container may use")
    if cpu is None or memory is None:
        return None
    review, place = amounts.review, amounts.place
    check_total(review, (*place, "cpu_total"), cpu_total, cpu, format_cpus)
    check_total(review, (*place, "mem_total"), mem_total, memory, format_bytes)
    check_total(review, (*place, "tasks_total"), tasks_total, tasks, str)
    return ResourceProfile(
        name=name,
        cpu_limit=cpu,
        mem_limit=memory,
        swap_limit=Bytes(0) if swap is None else swap,
        mem_throttle=throttle,
        tasks_limit=tasks,
        io_weight=profile.io_weight,
        shm_size=shm_size,
        cpu_total=cpu_total,
        mem_total=mem_total,
        tasks_total=tasks_total,
        admission=profile.admission,
    )


def _part(amounts: Amounts, key: str, written: object, limit: Bytes | None) -> Bytes | None:
    """Read an amount that must stay below the memory limit, which is what a percentage is of."""
    amount = amounts.memory(key, written, limit)
    if amount is not None and limit is not None and amount >= limit:
        amounts.review.add(
            (*amounts.place, key),
            written,
            f"is not below mem_limit, which is {format_bytes(limit)}",
            "write less",
        )
        return None
    return amount
