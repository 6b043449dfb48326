from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcer.errors import InvalidError
from enforcer.quantities import (
    CORE,
    GIB,
    KIB,
    MIB,
    PAGE,
    Bytes,
    Cpus,
    format_bytes,
    format_cpus,
    parse_bytes,
    parse_cpus,
)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (10, 10 * GIB),
        (0.5, GIB // 2),
        (0, 0),
        ("10", 10 * GIB),
        ("10G", 10 * GIB),
        ("40 GiB", 40 * GIB),
        (" 40gib ", 40 * GIB),
        ("512 MiB", 512 * MIB),
        ("1.5m", 3 * MIB // 2),
        ("64K", 64 * KIB),
        ("1T", 1024 * GIB),
        ("4096b", 4096),
        ("500 MB", 500_000_000 // PAGE * PAGE),
        ("5000 B", PAGE),
    ],
)
def test_memory_is_read_as_people_write_it(written: object, meant: int) -> None:
    if written == "10":
        # a bare number is in GiB, in quotes or not
        assert parse_bytes(written) == parse_bytes(10)
    assert parse_bytes(written) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [(2, 2 * CORE), ("2", 2 * CORE), (0.5, CORE // 2), ("150%", 3 * CORE // 2), ("0.000001", 1)],
)
def test_cpu_is_read_as_people_write_it(written: object, meant: int) -> None:
    assert parse_cpus(written) == meant


def test_a_percentage_is_of_the_whole_in_pages() -> None:
    assert parse_bytes("25%", whole=Bytes(10 * GIB)) == 2560 * MIB
    assert parse_bytes("33%", whole=Bytes(PAGE * 10)) == 3 * PAGE
    assert parse_cpus("25%", whole=Cpus(8 * CORE)) == 2 * CORE


WRONG = [
    -1,
    "-1",
    True,
    False,
    None,
    [],
    {},
    "",
    "ten",
    "1e3",
    float("nan"),
    float("inf"),
    1e-9,
    1e300,
    "1.",
    ".5",
    "1,5",
    "10 XB",
    "9" * 31,
    "9" * 30,
    "٣",
    "1\n2",
    "x" * 100,
]


@pytest.mark.parametrize("written", WRONG, ids=lambda value: ascii(value)[:20])
def test_anything_else_is_refused_with_a_code_and_a_hint(written: object) -> None:
    for parse in (parse_bytes, parse_cpus):
        with pytest.raises(InvalidError) as caught:
            parse(written)
        assert caught.value.code == "quantity.invalid"
        assert caught.value.hint
        assert len(caught.value.message) < 120


def test_a_percentage_of_memory_needs_a_whole() -> None:
    with pytest.raises(InvalidError, match="no meaning"):
        parse_bytes("10%")


def test_cpu_has_no_unit() -> None:
    with pytest.raises(InvalidError, match="no unit"):
        parse_cpus("2G")


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1023, "0.999 KiB"),
        (1536 * MIB, "1.5 GiB"),
        (-GIB, "-1 GiB"),
        (40 * GIB, "40 GiB"),
        (2048 * GIB, "2 TiB"),
        (5000 * 1024 * GIB, "5000 TiB"),
    ],
)
def test_memory_is_shown_in_three_digits(amount: int, shown: str) -> None:
    assert format_bytes(amount) == shown


@pytest.mark.parametrize(
    ("amount", "shown"), [(0, "0"), (CORE, "1"), (CORE // 3, "0.33"), (100 * CORE, "100")]
)
def test_cpu_is_shown_in_cores(amount: int, shown: str) -> None:
    assert format_cpus(amount) == shown


@given(st.integers(0, 1 << 40))
def test_whole_bytes_round_down_to_pages(amount: int) -> None:
    assert parse_bytes(f"{amount}B") == amount // PAGE * PAGE


@given(st.one_of(st.text(), st.floats(), st.integers(), st.booleans()))
def test_whatever_is_written_only_our_own_error_comes(written: object) -> None:
    for parse in (parse_bytes, parse_cpus):
        try:
            assert parse(written) >= 0
        except InvalidError:
            continue
