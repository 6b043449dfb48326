"""The machine view and the admin view, out of what the watch remembers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from enforcer.api.types import Amount, LeaseReply, ReceiptReply, SliceReply
from enforcer.model import LeaseState
from spawner.pages import told
from spawner.pages.documents import (
    AdminDocument,
    GroupDocument,
    MachineDocument,
    MachineSeries,
)
from spawner.pages.watch import Moment, Picture, Watch

_NOTHING: Final = Amount(cpu=0.0, memory=0)
_PROFILE: Final = "profile "
"""How the title of a profile's slice begins."""


def machine(
    watch: Watch, user: str, since: float, profiles: Collection[str] | None
) -> MachineDocument:
    """Tell everyone how the machine is; of the series only what is after `since`.

    profiles: those that the user may choose, which are all that is told of; None: an admin reads.
    """
    picture = watch.picture
    return MachineDocument(
        at=0.0 if picture is None else picture.status.at,
        poll_seconds=watch.poll_seconds,
        trouble=None if watch.trouble is None else told.trouble(watch.trouble),
        machine=None if picture is None else picture.status.machine,
        series=_series([one for one in watch.moments if one.at > since], user),
        groups=[] if picture is None else _groups(picture, user, profiles),
        mine=_amounts(picture, user, mine=True),
        others=_amounts(picture, user, mine=False),
        waiting=0 if picture is None else picture.status.leases.get(LeaseState.QUEUED, 0),
    )


def admin(watch: Watch, receipts: Sequence[ReceiptReply]) -> AdminDocument:
    """Tell an admin of everyone."""
    picture = watch.picture
    return AdminDocument(
        at=0.0 if picture is None else picture.status.at,
        poll_seconds=watch.poll_seconds,
        trouble=None if watch.trouble is None else told.trouble(watch.trouble),
        machine=None if picture is None else picture.status.machine,
        leases=[] if picture is None else _leases(picture),
        receipts=[told.receipt(one, named=True) for one in receipts],
        drift=[] if picture is None else picture.status.drift or [],
        repairs=[] if picture is None else (picture.status.repairs or [])[::-1],
    )


def _leases(picture: Picture) -> list[LeaseReply]:
    """Return the leases, held back also by their profile's quota if they had something to run."""
    ran_out = {one.title: one.throttled for one in picture.of_kind("profile")}
    found = []
    for lease in picture.leases:
        usage = lease.usage
        if usage is not None and usage.cpu_pressure >= told.THROTTLED:
            worst = max(usage.throttled, ran_out.get(f"{_PROFILE}{lease.profile}", 0.0))
            usage = usage.model_copy(update={"throttled": worst})
        found.append(lease.model_copy(update={"usage": usage}))
    return found


def _series(moments: Sequence[Moment], user: str) -> MachineSeries:
    mine = [one.users.get(user, _NOTHING) for one in moments]
    return MachineSeries(
        at=[one.at for one in moments],
        machine_cpu=[None if one.machine is None else one.machine.cpu for one in moments],
        machine_memory=[None if one.machine is None else one.machine.memory for one in moments],
        hub_cpu=[one.hub.cpu for one in moments],
        hub_memory=[one.hub.memory for one in moments],
        mine_cpu=[one.cpu for one in mine],
        mine_memory=[one.memory for one in mine],
    )


def _groups(picture: Picture, user: str, profiles: Collection[str] | None) -> list[GroupDocument]:
    """Tell of the profiles; a profile with one name behind it would be a name."""
    if profiles is None:
        return [_group(one, "") for one in picture.of_kind("profile")]
    users: dict[str, set[str]] = {}
    for lease in picture.leases:
        if lease.state is LeaseState.BOUND:
            users.setdefault(f"{_PROFILE}{lease.profile}", set()).add(lease.user)
    theirs = {f"{_PROFILE}{name}" for name in profiles}
    return [
        _group(one, _untold(users.get(one.title, ()), user))
        for one in picture.of_kind("profile")
        if one.title in theirs or user in users.get(one.title, ())
    ]


def _untold(inside: Collection[str], user: str) -> str:
    """Say why a user is not told what a profile uses; empty if they are."""
    if not inside:
        return "nobody uses it now"
    if len(inside) > 1 or user in inside:
        return ""
    return "not told here, because only one person uses it now"


def _group(one: SliceReply, untold: str) -> GroupDocument:
    return GroupDocument(
        title=one.title,
        used=None if untold else one.used,
        cpu_limit=one.cpu_limit,
        mem_limit=one.mem_limit,
        throttled=None if untold else one.throttled,
        untold=untold,
    )


def _amounts(picture: Picture | None, user: str, *, mine: bool) -> list[Amount]:
    """Return what each server of the reader's uses, or of the others', those with most first."""
    leases: Sequence[LeaseReply] = () if picture is None else picture.leases
    found = [
        Amount(cpu=lease.usage.cpu, memory=lease.usage.memory)
        for lease in leases
        if lease.usage is not None and (lease.user == user) is mine
    ]
    return sorted(found, key=lambda one: (one.memory, one.cpu), reverse=True)
