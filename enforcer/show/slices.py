"""The slice tree: what each level uses, against its limit and what is guaranteed in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from enforcer.api.types import SliceReply
from enforcer.show.text import (
    BAD,
    GOOD,
    QUIET,
    WARNING,
    cores,
    left,
    memory,
    percent,
    right,
    safe,
    share_style,
    table,
    throttled_style,
)

_SHORT: Final = {
    "root": "jupyter: everything",
    "engine": "engine: dockerd",
    "workload": "workload: containers",
    "adopted": "adopted: not asked for",
}
"""The four slices that are always there, in fewer words than the API's."""


def slices_table(slices: Sequence[SliceReply]) -> Table:
    """Make the table; one row a slice, indented by its depth, within 80 columns."""
    made = table(
        *left("\nslice"),
        *right("CPU\nused", "\nlimit", "\ngiven", "held\nback"),
        *right("memory\nused", "\nlimit", "\ngiven", "wait\nCPU", "\nmem", "OOM\nkills"),
    )
    for one in slices:
        made.add_row(*_row(one))
    return made


def _row(one: SliceReply) -> tuple[Text, ...]:
    limit = one.cpu_limit if one.cpu_cap is None else one.cpu_cap
    return (
        label(one),
        Text(cores(one.used.cpu), style=share_style(one.used.cpu, limit)),
        # A cap for the moment stands in place of the limit, marked.
        Text(cores(limit) + ("*" if one.cpu_cap is not None else ""), style=QUIET),
        _given(cores(one.guarantee.cpu), one.guarantee.cpu),
        Text(percent(one.throttled), style=throttled_style(one.throttled)),
        Text(memory(one.used.memory), style=share_style(one.used.memory, one.mem_limit)),
        Text(memory(one.mem_limit), style=QUIET),
        _given(memory(one.guarantee.memory), one.guarantee.memory),
        Text(percent(one.cpu_pressure), style=QUIET),
        Text(percent(one.memory_pressure), style=WARNING if one.memory_pressure > 0.1 else QUIET),
        Text(str(one.oom_kills), style=BAD if one.oom_kills else QUIET),
    )


def label(one: SliceReply) -> Text:
    """Name a slice, indented; what nobody runs in is faint."""
    style = "bold" if one.depth < 2 else "" if one.populated else QUIET
    indent = " " * one.depth
    title = one.title
    if one.kind == "user":
        title = title.rpartition(" in profile ")[0] or title  # the profile is the row above
    text = _SHORT.get(one.kind) or safe(title)
    return Text(f"{indent}{text}", style=style, overflow="fold")


def _given(shown: str, amount: float) -> Text:
    return Text(shown if amount else "-", style=GOOD if amount else QUIET)
