"""What one question is answered with: `explain`, `plan`, `reload`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from enforcer.api.types import ExplainReply, LevelReply, PlannedReply, RightReply
from enforcer.show.text import (
    BAD,
    QUIET,
    WARNING,
    cores,
    left,
    memory,
    percent,
    right,
    share_style,
    table,
    throttled_style,
    word,
)


def explain_view(explained: ExplainReply) -> RenderableType:
    """Tell what holds a server back, level by level, and where its rights come from."""
    parts: list[RenderableType] = [word(explained.summary, "bold")]
    parts += [word(f"- {sentence}") for sentence in explained.sentences]
    if explained.levels:
        parts += [Text(), _levels(explained.levels)]
    parts += [Text(), _rights(explained.rights)]
    return Group(*parts)


def _levels(levels: Sequence[LevelReply]) -> Table:
    made = table(
        *left("\n", "\nlevel"),
        *right("CPU\nused", "\nlimit", "\ngiven", "held\nback"),
        *right("memory\nused", "\nlimit", "\ngiven", "own\nOOM"),
    )
    for level in levels:
        limit = level.cpu_limit if level.cpu_cap is None else level.cpu_cap
        made.add_row(
            Text(">" if level.binds else "", style=BAD),
            word(level.title, "bold" if level.binds else ""),
            Text(cores(level.cpu_used), style=share_style(level.cpu_used, limit)),
            Text(cores(limit, "all") + ("*" if level.cpu_cap is not None else "")),
            Text(cores(level.cpu_guarantee or None)),
            Text(percent(level.throttled), style=throttled_style(level.throttled)),
            Text(memory(level.mem_used), style=share_style(level.mem_used, level.mem_limit)),
            Text(memory(level.mem_limit, "all")),
            Text(memory(level.mem_guarantee or None)),
            Text(str(level.oom_own), style=BAD if level.oom_own else QUIET),
        )
    return made


def _rights(rights: Sequence[RightReply]) -> Table:
    made = table(*left("right", "value", "from"))
    made.columns[0].no_wrap = True  # keys of ours, all of them short
    for one in rights:
        made.add_row(word(one.key), word(one.value), word(one.source, QUIET))
    return made


def plan_view(changes: Sequence[PlannedReply]) -> RenderableType:
    """Tell what a configuration would change, and whom it would touch."""
    if not changes:
        return Text("Nothing would change.")
    made = table(*left("subject", "what", "before", "after", "risk"))
    for one in changes:
        made.add_row(
            word(one.subject),
            word(one.what),
            word(one.before),
            word(one.after),
            word(one.risk or "-", WARNING if one.risk else QUIET),
        )
    return made


def reload_view(changes: Sequence[str]) -> RenderableType:
    """Tell what a new configuration changed."""
    if not changes:
        return Text("Read again: nothing changed.")
    return Group(*(word(change) for change in changes))
