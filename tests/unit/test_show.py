from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group, RenderableType

from enforcer.api.types import Amount, DriftReply, SliceReply
from enforcer.show.slices import slices_table
from enforcer.show.status import drift_lines
from enforcer.show.text import cores, memory, safe, span

GIB = 2**30


def printed(what: RenderableType, *, width: int = 80, terminal: bool = False) -> str:
    """Print it; NO_COLOR and the like are not asked."""
    out = io.StringIO()
    Console(
        file=out, width=width, force_terminal=terminal, markup=False, _environ={"TERM": "xterm"}
    ).print(what)
    return out.getvalue()


def row(title: str, depth: int, **more: object) -> SliceReply:
    """Have a busy slice with the widest numbers."""
    kind = {0: "root", 1: "workload", 2: "profile", 3: "user", 4: "lease"}[depth]
    busy = {
        "unit": "jupyter.slice",
        "depth": depth,
        "kind": kind,
        "title": title,
        "cpu_limit": 127.5,
        "cpu_cap": None,
        "mem_limit": 999 * GIB,
        "guarantee": Amount(cpu=63.25, memory=512 * GIB),
        "weight": 10000,
        "used": Amount(cpu=127.5, memory=999 * GIB),
        "memory_peak": 999 * GIB,
        "swap": 0,
        "tasks_limit": None,
        "tasks": 99999,
        "throttled": 1.0,
        "cpu_pressure": 1.0,
        "memory_pressure": 1.0,
        "oom_kills": 123,
        "oom_own": 1,
        "populated": True,
    }
    return SliceReply.model_validate({**busy, **more})


@given(st.text())
def test_what_is_printed_is_always_visible(text: str) -> None:
    shown = safe(text)
    assert shown.isprintable()
    assert safe(shown) == shown


def test_two_hostile_names_are_told_apart() -> None:
    assert safe("a\x1b[2J") == "a\\x1b[2J"
    assert safe("a\u202eb") != safe("a\u202db")


@given(st.integers(min_value=0, max_value=2**60))
def test_an_amount_of_memory_takes_six_columns_at_most(amount: int) -> None:
    assert len(memory(amount)) <= 6


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0, "0"), (1, "1B"), (1023, "1K"), (2**20, "1M"), (1500 * 2**20, "1.46G"), (2**40, "1T")],
)
def test_memory_is_shown_in_powers_of_1024(amount: int, shown: str) -> None:
    assert memory(amount) == shown


@pytest.mark.parametrize(
    ("amount", "shown"), [(None, "-"), (0, "0"), (0.5, "0.5"), (9.999, "10"), (127.5, "128")]
)
def test_cores_are_shown_without_zeros_at_the_end(amount: float | None, shown: str) -> None:
    assert cores(amount) == shown


def test_a_time_is_told_in_one_unit() -> None:
    assert [span(one) for one in (0, 119, 120, 7200, 200_000)] == [
        "0 s",
        "119 s",
        "2 min",
        "2 h",
        "2 d",
    ]


def test_the_tree_fits_eighty_columns_with_the_widest_numbers() -> None:
    titles = ("everything", "all containers", "profile Large", "alice in profile Large")
    rows = [row(title, depth) for depth, title in enumerate(titles)]
    lines = printed(slices_table(rows)).splitlines()
    assert max(map(len, lines)) <= 80
    assert "alice" in lines[-1]
    assert "128" in lines[-1]


def test_a_long_name_is_folded_and_never_cut() -> None:
    out = printed(slices_table([row("x" * 255, 4)]))
    assert out.count("x") == 255


def test_a_cap_for_the_moment_stands_in_place_of_the_limit() -> None:
    out = printed(slices_table([row("alice's server", 4, cpu_cap=0.75)]))
    assert "0.75*" in out


def test_what_time_mends_is_no_work_for_the_operator() -> None:
    outside = DriftReply(what="a", subject="x", message="x is outside", command="docker stop x")
    lowered = DriftReply(what="b", subject="ann", message="ann holds more", command="")
    out = printed(Group(*drift_lines([lowered, outside]))).split()
    assert "For you to mend: x is outside docker stop x" in " ".join(out)
    assert " ".join(out).endswith("For you to know: ann holds more")
    assert "mend" not in printed(Group(*drift_lines([lowered])))
    assert drift_lines([]) == []


def test_colour_is_for_terminals() -> None:
    table = slices_table([row("alice's server", 4)])
    assert "\x1b[" in printed(table, terminal=True)
    assert "\x1b[" not in printed(table)
