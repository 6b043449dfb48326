"""From the daemon's values to the API's: leases, what they left, and why."""

from __future__ import annotations

from datetime import UTC, datetime

from enforcer.api import types
from enforcer.explain import Explanation
from enforcer.levels import LevelState
from enforcer.model import (
    Lease,
    Placement,
    PlannedChange,
    Receipt,
    Sample,
)
from enforcer.places import say_cores, server_title
from enforcer.quantities import CORE, format_bytes


def cores(cpus: int) -> float:
    """Return an amount of CPU in cores."""
    return cpus / CORE


def lease_reply(
    lease: Lease,
    usage: tuple[float, Sample] | None = None,
    placement: Placement | None = None,
    queue: tuple[int, str] | None = None,
) -> types.LeaseReply:
    """Tell of a lease. usage: its last sample, and when that was in Unix seconds."""
    return types.LeaseReply(
        id=lease.id,
        user=lease.user,
        server=lease.server,
        profile=lease.profile,
        image=lease.image,
        state=lease.state,
        unit=lease.unit,
        cpu_limit=cores(lease.grant.cpu_limit),
        mem_limit=lease.grant.mem_limit,
        cpu_guarantee=cores(lease.grant.cpu_guarantee),
        mem_guarantee=lease.grant.mem_guarantee,
        created_at=lease.created_at,
        bound_at=lease.bound_at,
        deadline=lease.deadline,
        resized_until=lease.resized_until,
        container_id=lease.container_id,
        sentence=_lease_sentence(lease, queue),
        notes=list(lease.notes),
        queue=None if queue is None else types.QueueReply(place=queue[0], sentence=queue[1]),
        placement=None if placement is None else placement_reply(placement),
        usage=None if usage is None else sample_reply(*usage),
    )


def _lease_sentence(lease: Lease, queue: tuple[int, str] | None) -> str:
    grant = lease.grant
    said = (
        f"{server_title(lease.user, lease.server)} in profile {lease.profile}:"
        f" up to {say_cores(grant.cpu_limit)} and {format_bytes(grant.mem_limit)}"
    )
    if grant.cpu_guarantee or grant.mem_guarantee:
        said += (
            f", of it {say_cores(grant.cpu_guarantee)} and"
            f" {format_bytes(grant.mem_guarantee)} guaranteed"
        )
    if queue is not None:
        said += f"; number {queue[0]} in the queue: {queue[1]}"
    return said


def placement_reply(placement: Placement) -> types.PlacementReply:
    """Tell where a container goes."""
    return types.PlacementReply(
        cgroup_parent=placement.slice,
        image=placement.image,
        labels=dict(placement.labels),
        nano_cpus=placement.nano_cpus,
        memory=placement.memory,
        memory_swap=placement.memory_swap,
        pids_limit=placement.pids_limit,
        shm_size=placement.shm_size,
        oom_score_adj=placement.oom_score_adj,
        volumes_ro=list(placement.volumes_ro),
        home=placement.home,
    )


def sample_reply(at: float, sample: Sample) -> types.SampleReply:
    """Tell of one tick, which ended at `at` (Unix seconds)."""
    return types.SampleReply(
        at=at,
        cpu=cores(sample.cpu),
        memory=sample.memory,
        throttled=sample.throttled,
        cpu_pressure=sample.cpu_pressure,
        memory_pressure=sample.memory_pressure,
        io_pressure=sample.io_pressure,
        oom_kills=sample.oom_kills,
        oom_own=sample.oom_own,
        cpu_limit=None if sample.cpu_limit is None else cores(sample.cpu_limit),
        mem_limit=sample.mem_limit,
    )


def receipt_reply(receipt: Receipt) -> types.ReceiptReply:
    """Tell what a finished lease left."""
    return types.ReceiptReply(
        lease_id=receipt.lease_id,
        user=receipt.user,
        server=receipt.server,
        profile=receipt.profile,
        image=receipt.image,
        cpu_limit=cores(receipt.grant.cpu_limit),
        mem_limit=receipt.grant.mem_limit,
        cpu_guarantee=cores(receipt.grant.cpu_guarantee),
        mem_guarantee=receipt.grant.mem_guarantee,
        started_at=receipt.started_at,
        ended_at=receipt.ended_at,
        reason=receipt.reason,
        cpu_seconds=receipt.cpu_seconds,
        throttled_seconds=receipt.throttled_seconds,
        memory_peak=receipt.memory_peak,
        oom_kills=receipt.oom_kills,
        oom_kills_as_victim=receipt.oom_kills_as_victim,
        limit_at_kill=receipt.limit_at_kill,
        sentence=_receipt_sentence(receipt),
    )


def _receipt_sentence(receipt: Receipt) -> str:
    ended = datetime.fromtimestamp(receipt.ended_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    said = (
        f"{server_title(receipt.user, receipt.server)} {_REASONS[receipt.reason]}, {ended}:"
        f" {receipt.cpu_seconds:.1f} s of CPU, at most {format_bytes(receipt.memory_peak)}"
    )
    if receipt.throttled_seconds >= 1:
        said += f", held back for {receipt.throttled_seconds:.0f} s"
    return said


_REASONS = {
    "stopped": "was stopped",
    "exited": "ended by itself",
    "oom-limit": "was killed at its own memory limit",
    "oom-victim": "was killed because a level above it, or the host, was full",
    "expired": "never got its container",
    "cancelled": "was withdrawn",
    "replaced": "made place for another claim",
    "refused": "lost its right before its turn came",
    "lost": "was gone when the daemon came back",
}


def planned_reply(change: PlannedChange) -> types.PlannedReply:
    """Tell of one thing a new configuration would do."""
    return types.PlannedReply(
        subject=change.subject,
        what=change.what,
        before=change.before,
        after=change.after,
        risk=change.risk,
    )


def explain_reply(told: Explanation, lease: types.LeaseReply | None) -> types.ExplainReply:
    """Tell why."""
    return types.ExplainReply(
        user=told.user,
        server=told.server,
        lease=lease,
        summary=told.summary,
        sentences=list(told.sentences),
        levels=[_level(one) for one in told.levels],
        rights=[
            types.RightReply(key=one.key, value=one.value, source=one.source) for one in told.rights
        ],
    )


def _level(level: LevelState) -> types.LevelReply:
    return types.LevelReply(
        unit=level.unit,
        title=level.title,
        cpu_limit=None if level.cpu_limit is None else cores(level.cpu_limit),
        cpu_cap=None if level.cpu_cap is None else cores(level.cpu_cap),
        cpu_used=cores(level.cpu_used),
        cpu_guarantee=cores(level.cpu_guarantee),
        mem_limit=level.mem_limit,
        mem_throttle=level.mem_throttle,
        mem_used=level.mem_used,
        mem_guarantee=level.mem_guarantee,
        swap_limit=level.swap_limit,
        swap_used=level.swap_used,
        tasks_limit=level.tasks_limit,
        tasks=level.tasks,
        throttled=level.throttled,
        cpu_pressure=level.cpu_pressure,
        memory_pressure=level.memory_pressure,
        oom_own=level.oom_own,
        throttle_hits=level.throttle_hits,
        forks_refused=level.forks_refused,
        binds=level.binds,
        hold=level.hold,
        sentence=level.sentence,
    )
