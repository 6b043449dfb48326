"""What a lease used, added up from readings of its leaf's counters.

The counters outlive the container and the daemon, so an account keeps what they showed last and
adds the differences. A leaf made anew counts from zero again: then a new epoch begins. A leaf that
had an earlier lease counts from that lease's end: then the first reading is the baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Final

from enforcer.errors import InvalidError
from enforcer.model import EndReason, Lease, Observed, Receipt, Usage
from enforcer.quantities import Bytes

_FIRST_FIELDS: Final = 14
"""What the accounts of the first ledgers had: those that came later begin at zero."""

_ENDS_WITHIN_SECONDS: Final = 60
"""A container that goes this soon after a kill in it went because of that."""

_NONE: Final = 0
_OWN: Final = 1
_VICTIM: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one lease has used so far, and what its leaf's counters showed last. Integers only."""

    cpu_usec: int = 0
    throttled_usec: int = 0
    memory_peak: int = 0
    killed_own: int = 0
    """Processes killed at the lease's own limit, or its container's."""
    killed_victim: int = 0
    """Processes killed because something above was full."""
    last_kill: int = _NONE
    """Whose limit the last kill was at: 0 none, 1 own, 2 victim."""
    last_kill_at: int = 0
    """Unix seconds of the reading that showed it."""
    pending_oom: int = 0
    """The limit was hit in the last reading, and nobody killed yet."""
    peak_before: int = 0
    """The leaf's peak when the account was opened: an earlier lease's."""
    seen_cpu_usec: int = 0
    seen_throttled_usec: int = 0
    seen_memory_peak: int = 0
    seen_oom_kills: int = 0
    seen_oom_events: int = 0
    limit_at_kill: int = 0
    """Bytes: the memory limit at the last kill at the lease's own limit; 0: not known."""

    @property
    def killed(self) -> int:
        """Processes killed in it, whoever's limit was hit."""
        return self.killed_own + self.killed_victim

    def as_ints(self) -> tuple[int, ...]:
        """Return it for the ledger."""
        return astuple(self)


def from_ints(values: Sequence[int]) -> Account:
    """Read what `as_ints` wrote.

    Raises:
        InvalidError: ``account.malformed``: other values than an account has.
    """
    names = [field.name for field in fields(Account)]
    right = all(type(value) is int and value >= 0 for value in values)
    if not _FIRST_FIELDS <= len(values) <= len(names) or not right:
        raise InvalidError("account.malformed", f"{len(values)} values are no account of a lease")
    return Account(**dict(zip(names, values, strict=False)))


def open_account(usage: Usage | None = None) -> Account:
    """Begin an account; `usage` is the leaf's reading before the lease, None for a new leaf."""
    return Account() if usage is None else _seen(Account(peak_before=usage.memory_peak), usage)


def memory_limit(lease: Lease, observed: Observed) -> Bytes | None:
    """Return the memory limit in force on a lease, None without one.

    The kernel's, which a resize may not have reached yet. The container's own is lower than its
    leaf's while a raise is under way, or where somebody has lowered it.
    """
    leaf = observed.cgroups.get(lease.unit)
    container = (observed.containers or {}).get(lease.container_id or "")
    found = (
        None if leaf is None else leaf.limits.memory_max,
        None if container is None or container.kernel is None else container.kernel.memory,
    )
    return min((one for one in found if one is not None), default=None)


def observe(account: Account, usage: Usage, at: float, limit: Bytes | None = None) -> Account:
    """Add what a reading of the leaf shows.

    at: its time in Unix seconds. limit: the memory limit in force then, None if it is not known.
    """
    if _began_anew(account, usage):
        account = _seen(replace(account, peak_before=0), Usage())
    kills = usage.oom_kills - account.seen_oom_kills
    hits = usage.oom_events - account.seen_oom_events
    # The kernel counts the hit before the kill, so a reading may come between the two. Without
    # memory.oom.group, which neither systemd nor Docker sets here, a hit kills one at most.
    own = min(kills, hits + account.pending_oom)
    # The peak of a used leaf says nothing until it is exceeded.
    exceeded = usage.memory_peak > account.peak_before
    peak = usage.memory_peak if exceeded else usage.memory_current
    last = _NONE
    if kills:
        last = _OWN if own else _VICTIM
    return _seen(
        replace(
            account,
            cpu_usec=account.cpu_usec + usage.cpu_usec - account.seen_cpu_usec,
            throttled_usec=account.throttled_usec
            + usage.throttled_usec
            - account.seen_throttled_usec,
            memory_peak=max(account.memory_peak, peak),
            killed_own=account.killed_own + own,
            killed_victim=account.killed_victim + kills - own,
            last_kill=last or account.last_kill,
            last_kill_at=int(at) if kills else account.last_kill_at,
            pending_oom=0 if kills else hits,
            limit_at_kill=(limit or 0) if own else account.limit_at_kill,
        ),
        usage,
    )


def receipt(lease: Lease, account: Account, ended_at: float, reason: EndReason) -> Receipt:
    """Make the receipt of a lease that ended.

    ended_at: when its container went, or else when the lease ended. A container that ended by
    itself within a minute of a kill in it is said to have been killed.
    """
    recent = ended_at - account.last_kill_at <= _ENDS_WITHIN_SECONDS
    if reason is EndReason.EXITED and recent:
        reason = {
            _NONE: reason,
            _OWN: EndReason.OOM_LIMIT,
            _VICTIM: EndReason.OOM_VICTIM,
        }[account.last_kill]
    return Receipt(
        lease_id=lease.id,
        user=lease.user,
        server=lease.server,
        profile=lease.profile,
        image=lease.image,
        grant=lease.grant,
        started_at=lease.created_at if lease.bound_at is None else lease.bound_at,
        ended_at=ended_at,
        reason=reason,
        cpu_seconds=account.cpu_usec / 1e6,
        throttled_seconds=account.throttled_usec / 1e6,
        memory_peak=Bytes(account.memory_peak),
        oom_kills=account.killed_own,
        oom_kills_as_victim=account.killed_victim,
        limit_at_kill=Bytes(account.limit_at_kill) if account.limit_at_kill else None,
    )


def _began_anew(account: Account, usage: Usage) -> bool:
    """Tell whether the counters went back: the leaf was removed and made again."""
    return (
        usage.cpu_usec < account.seen_cpu_usec
        or usage.throttled_usec < account.seen_throttled_usec
        or usage.memory_peak < account.seen_memory_peak
        or usage.oom_kills < account.seen_oom_kills
        or usage.oom_events < account.seen_oom_events
    )


def _seen(account: Account, usage: Usage) -> Account:
    return replace(
        account,
        seen_cpu_usec=usage.cpu_usec,
        seen_throttled_usec=usage.throttled_usec,
        seen_memory_peak=usage.memory_peak,
        seen_oom_kills=usage.oom_kills,
        seen_oom_events=usage.oom_events,
    )
