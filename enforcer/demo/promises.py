"""What is promised, what the kernel says, and whether the one is the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from enforcer.names import UnitName, ancestors
from enforcer.show.text import BAD, GOOD, left, table, word

WITHIN: Final = 0.02
"""How far a quota may be off over ten seconds."""
MET: Final = 0.95
"""The part of a guaranteed CPU that must be there."""
REPAIR_SECONDS: Final = 1.0
_PERIOD_USEC: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One promise, in words: what was asked for, what the kernel says."""

    promise: str
    asked: str
    found: str
    kept: bool


def same(promise: str, asked: object, found: object) -> Verdict:
    """Promise that two values are the same."""
    return Verdict(promise=promise, asked=str(asked), found=str(found), kept=asked == found)


def within(promise: str, cores: float, used: float) -> Verdict:
    """Promise that a quota that everybody wants more of is used up, and not exceeded."""
    return Verdict(
        promise=promise,
        asked=f"{cores:.3f} ±{WITHIN:.0%}",
        found=f"{used:.3f}",
        kept=abs(used - cores) <= WITHIN * cores,
    )


def at_least(promise: str, cores: float, used: float) -> Verdict:
    """Promise a guaranteed CPU to somebody who wants it."""
    return Verdict(
        promise=promise, asked=f"≥ {cores * MET:.3f}", found=f"{used:.3f}", kept=used >= cores * MET
    )


def cpu_max(cores: float) -> str:
    """Return what the kernel's cpu.max shows for a quota; systemd's period is 100 ms."""
    return f"{round(cores * _PERIOD_USEC)} {_PERIOD_USEC}"


def floors_add_up(floors: Sequence[tuple[UnitName, int]], leaf: UnitName, floor: int) -> Verdict:
    """Promise that every level above a guaranteed leaf protects what is below it.

    floors: memory.min of every slice there is.
    """
    by_unit = dict(floors)
    wrong = [
        unit
        for unit in (leaf, *ancestors(leaf))
        if by_unit.get(unit, 0) < max(floor, _below(by_unit, unit))
    ]
    chain = " ≤ ".join(f"{by_unit.get(unit, 0) >> 20}M" for unit in (leaf, *ancestors(leaf)))
    return Verdict(
        promise="memory.min of erin's leaf, and its sum on every level above",
        asked=f"{floor >> 20}M",
        found=chain,
        kept=by_unit.get(leaf) == floor and not wrong,
    )


def _below(by_unit: dict[UnitName, int], unit: UnitName) -> int:
    """Sum the floors of the slices right below one."""
    return sum(floor for one, floor in by_unit.items() if ancestors(one)[:1] == (unit,))


def undone(
    name: str, wanted: str, found: str, seconds: float, *, back: bool, change_seconds: float = 0.0
) -> Verdict:
    """Promise that a change made past the daemon is undone within a second.

    change_seconds: how long such a change takes by itself just now. Undoing one is another, so a
    machine that needs longer than a second for that, an emulated one with every processor busy, is
    given that time.
    """
    most = max(REPAIR_SECONDS, change_seconds)
    return Verdict(
        promise=f"{name} is undone (memory.max)",
        asked=f"{wanted}, < {most * 1000:.0f} ms",
        found=f"{found or 'never seen wrong'}, {seconds * 1000:.0f} ms"
        if back
        else f"{found}, still",
        kept=back and seconds < most,
    )


def verdicts_view(verdicts: Sequence[Verdict], *, complete: bool) -> RenderableType:
    """Make the table, and the last line; not complete: something failed before the end."""
    made = table(*left("promise", "asked for", "the kernel says", ""))
    for one in verdicts:
        mark = Text("kept", style=GOOD) if one.kept else Text("BROKEN", style=BAD)
        made.add_row(word(one.promise), word(one.asked), word(one.found), mark)
    broken = sum(not one.kept for one in verdicts)
    last = f"All {len(verdicts)} promises are kept."
    if broken:
        last = f"{broken} of {len(verdicts)} promises are broken."
    elif not complete:
        last = "The check did not come to its end."
    return Group(made, Text(), Text(last, style=GOOD if complete and not broken else BAD))
