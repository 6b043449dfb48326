"""From the daemon's replies to what the pages say: sentences for scientists, columns for charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from enforcer.api.types import (
    CatalogueReply,
    ExplainReply,
    LeaseReply,
    ReceiptReply,
    SampleReply,
    StatusReply,
)
from enforcer.errors import EnforcerError
from enforcer.model import EndReason, Hold, LeaseState
from enforcer.quantities import GIB, format_bytes
from spawner.pages import words
from spawner.pages.documents import (
    BarDocument,
    CatalogueDocument,
    EventDocument,
    FitDocument,
    ReceiptDocument,
    Series,
    ServerDocument,
    Trouble,
)
from spawner.pages.form import bars

THROTTLED: Final = 0.02
"""Less than this share of a tick is no finding."""
_WAITING: Final = 0.10
_NEARLY_FULL: Final = 0.85
_SOON_SECONDS: Final = 600.0
_TREND_SECONDS: Final = 60.0


def trouble(error: EnforcerError) -> Trouble:
    """Tell of an error."""
    return Trouble(code=error.code, message=error.message, hint=error.hint)


def catalogue(
    found: CatalogueReply, status: StatusReply, since: Mapping[str, float]
) -> CatalogueDocument:
    """Tell what fits now; since: from when on a profile does not."""
    return CatalogueDocument(
        at=status.at,
        bars=[
            BarDocument(key=one.key, sentence=one.sentence, promised=one.promised, used=one.used)
            for one in bars(status.machine)
        ],
        profiles=[
            FitDocument(
                name=one.name,
                fits=one.fits,
                sentence=words.capital(one.sentence),
                since=since.get(one.name),
            )
            for one in found.profiles
        ],
    )


def server(
    lease: LeaseReply,
    samples: Sequence[SampleReply],
    told: ExplainReply,
    since: float,
    *,
    named: bool = False,
) -> ServerDocument:
    """Tell of one server, its user or somebody else; of its samples only those after `since`.

    named: it is somebody else, to whom the user is named.
    """
    return ServerDocument(
        lease=lease,
        summary=told.summary,
        slowed_by=slowed_by(told),
        held_back=held_back(told),
        warning=warning(lease, samples, named=named),
        notes=lease.notes,
        events=kills(samples, f"{lease.user}'s" if named else "your"),
        samples=columns([one for one in samples if one.at > since]),
    )


def held_back(told: ExplainReply) -> float:
    """Return the share of the last tick in which its own quota, or one above, had run out.

    One above holds back only those who have something to run.
    """
    if not told.levels:
        return 0.0
    leaf, *above = told.levels
    waits = leaf.cpu_pressure >= THROTTLED
    return max([leaf.throttled, *(one.throttled for one in above if waits)])


def columns(samples: Iterable[SampleReply]) -> Series:
    """Turn samples into columns."""
    kept = list(samples)
    return Series(
        at=[one.at for one in kept],
        cpu=[one.cpu for one in kept],
        memory=[one.memory for one in kept],
        throttled=[one.throttled for one in kept],
        cpu_pressure=[one.cpu_pressure for one in kept],
        memory_pressure=[one.memory_pressure for one in kept],
        io_pressure=[one.io_pressure for one in kept],
        cpu_limit=[one.cpu_limit for one in kept],
        mem_limit=[one.mem_limit for one in kept],
    )


def slowed_by(told: ExplainReply) -> str:
    """Name the limit that holds a server back now; empty if none does."""
    level = next((one for one in told.levels if one.binds), None)
    if level is None:
        leaf = told.levels[0] if told.levels else None
        if leaf is not None and leaf.cpu_pressure >= _WAITING:
            return "busy CPUs, which it shares with others by weight"
        return ""
    leaf = told.levels[0]
    owner = "its own" if level is leaf else f"{level.title}'s"
    if level.hold is Hold.CPU:
        what = "CPU quota" if level.cpu_cap is None else "CPU cap for now, so that guarantees hold"
        return f"{owner} {what} ({words.percent(level.throttled)} of the time)"
    if level.hold is Hold.MEMORY_THROTTLE:
        what = f"memory throttle of {format_bytes(level.mem_throttle or 0)}"
        return f"{owner} {what} ({words.percent(leaf.memory_pressure)} of the time)"
    if level.hold is Hold.TASKS:
        what = f"limit of {level.tasks_limit} processes and threads"
        return f"{owner} {what}: no more can start until some have ended"
    limit = "" if level.mem_limit is None else f" of {format_bytes(level.mem_limit)}"
    return f"{owner} memory limit ({format_bytes(level.mem_used)}{limit} in use)"


def warning(lease: LeaseReply, samples: Sequence[SampleReply], *, named: bool = False) -> str:
    """Warn before the memory limit is reached: nearly full, or full soon at this pace.

    named: it is not the user who is warned, and who could free memory.
    """
    if lease.state is not LeaseState.BOUND or not samples or not lease.mem_limit:
        return ""
    used, limit = samples[-1].memory, lease.mem_limit
    seconds = _seconds_left(samples, limit)
    soon = seconds is not None and seconds <= _SOON_SECONDS
    if used < limit * _NEARLY_FULL and not soon:
        return ""
    said = f"{format_bytes(used)} of {format_bytes(limit)} of memory are in use"
    if seconds is not None and soon:
        said += f"; at this pace it is full in {_duration(seconds)}"
    advice = "" if named else ": save your work, or free memory"
    return f"{said}. At the limit a kernel is killed{advice}."


def _seconds_left(samples: Sequence[SampleReply], limit: int) -> float | None:
    """Return when the memory is full if it grows on as in the last minute; None: not in sight."""
    last = samples[-1]
    recent = [one for one in samples if one.at >= last.at - _TREND_SECONDS]
    first = recent[0]
    passed, grown = last.at - first.at, last.memory - first.memory
    # less than a twentieth of the limit in a minute, or in the first half of it, is everyday life
    if passed < _TREND_SECONDS / 2 or grown < limit / 20 or last.memory < limit / 2:
        return None
    return max(0.0, (limit - last.memory) * passed / grown)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    return f"about {round(seconds / 60)} min"


def kills(samples: Iterable[SampleReply], whose: str = "your") -> list[EventDocument]:
    """Tell of the processes that were killed in a server that runs on; `whose` it is."""
    found = []
    not_own = (
        f"the machine, or a level above {whose} server, was full; it was not {whose} own limit"
    )
    for one in samples:
        limit = "memory" if one.mem_limit is None else format_bytes(one.mem_limit)
        for count, why in (
            (one.oom_own, f"{limit} limit reached"),
            (one.oom_kills - one.oom_own, not_own),
        ):
            if count:
                said = f"{_times(count)} killed at {{at}}: {why}."
                found.append(EventDocument(at=one.at, bad=True, sentence=said))
    return found


def _times(count: int) -> str:
    return "A process was" if count == 1 else f"{count} processes were"


def receipt(one: ReceiptReply, *, named: bool = False) -> ReceiptDocument:
    """Tell what became of a server: its user, or somebody else, to whom the user is `named`."""
    bad = bool(one.oom_kills or one.oom_kills_as_victim) or one.reason in _BAD
    return ReceiptDocument(
        id=one.lease_id,
        user=one.user,
        server=one.server,
        profile=one.profile,
        started_at=one.started_at,
        ended_at=one.ended_at,
        bad=bad,
        sentence=receipt_sentence(one, f"{one.user}'s" if named else "Your"),
        detail=_receipt_detail(one),
        cpu_seconds=one.cpu_seconds,
        memory_peak=one.memory_peak,
        mem_limit=one.mem_limit,
        oom_kills=one.oom_kills + one.oom_kills_as_victim,
    )


def receipt_sentence(one: ReceiptReply, whose: str = "Your") -> str:
    """Say why a server ended, and what was killed in it; `whose` begins the sentence."""
    kernel = f"kernel in server {one.server}" if one.server else "kernel"
    limit = _limit_reached(one)
    if one.reason is EndReason.OOM_LIMIT:
        return f"{whose} {kernel} was killed at {{at}}: {limit}."
    if one.reason is EndReason.OOM_VICTIM:
        used = f"{_peak(one.memory_peak)} of its {format_bytes(one.mem_limit)}"
        return (
            f"{whose} {kernel} was killed at {{at}} because the machine, or a level above it, was"
            f" full. It had used at most {used}."
        )
    name = f"server {one.server}" if one.server else "server"
    said = f"{whose} {name} {_REASONS[one.reason]} at {{at}}."
    if one.oom_kills:
        said += f" Before that, {_times(one.oom_kills).lower()} killed in it: {limit}."
    elif one.oom_kills_as_victim:
        killed = _times(one.oom_kills_as_victim).lower()
        said += f" Before that, {killed} killed in it, because a level above it was full."
    return said


def _limit_reached(one: ReceiptReply) -> str:
    """Name the limit of the kill, which a resize may have changed since, and then the peak too."""
    limit = one.mem_limit if one.limit_at_kill is None else one.limit_at_kill
    said = f"{format_bytes(limit)} limit reached"
    resized_since = limit != one.mem_limit and one.memory_peak > limit
    return said if resized_since else f"{said}, peak {_peak(one.memory_peak)}"


def _receipt_detail(one: ReceiptReply) -> str:
    said = f"Profile {one.profile}, {words.both(one.cpu_limit, one.mem_limit)}"
    if one.cpu_seconds or one.memory_peak:
        said += f"; {_cpu_time(one.cpu_seconds)} of CPU, at most {_peak(one.memory_peak)}"
    if one.throttled_seconds >= 1:
        said += f"; held back by CPU quotas for {_cpu_time(one.throttled_seconds)}"
    return f"{said}."


def _cpu_time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _peak(amount: int) -> str:
    return f"{amount / GIB:.1f} GiB" if amount >= GIB else format_bytes(amount)


_REASONS: Final = {
    EndReason.STOPPED: "was stopped",
    EndReason.EXITED: "ended by itself",
    EndReason.EXPIRED: "never got its container and was given up",
    EndReason.CANCELLED: "was withdrawn",
    EndReason.REPLACED: "made place for another start",
    EndReason.REFUSED: "lost its right to start before its turn came",
    EndReason.LOST: "was found gone, after a reboot for instance,",
}
_BAD: Final = frozenset({EndReason.OOM_LIMIT, EndReason.OOM_VICTIM, EndReason.LOST})
