from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcer.config.positions import MOST_LEVELS, locate
from tests.unit.configs import document, trees


def test_every_kind_of_key_has_its_line() -> None:
    text = """\
# a comment with [brackets] = "quotes"
top = 1 # more
'literal key' = "a # no comment"
[table . "quoted \\u0041"]
dotted.inner = [ 1, # one
  "two ] [", # two
  { three = 3, 'x'.y = [] }, ]
multi = \"\"\"
[not.a.table]
\\\"\"\" still = in \"\"\"\"
after = '''
]'''
date = 1979-05-27 07:32:00
empty = {}
[[array]]
one = true
[[array]]
"""
    lines = locate(text).lines
    assert lines["top",] == 2
    assert lines["literal key",] == 3
    assert lines["table",] == 4
    table = ("table", "quoted A")
    assert lines[table] == 4
    assert lines[*table, "dotted"] == 5
    assert lines[*table, "dotted", "inner", 0] == 5
    assert lines[*table, "dotted", "inner", 1] == 6
    assert lines[*table, "dotted", "inner", 2, "three"] == 7
    assert lines[*table, "dotted", "inner", 2, "x", "y"] == 7
    assert lines[*table, "multi"] == 8
    assert lines[*table, "after"] == 11
    assert lines[*table, "date"] == 13
    assert lines[*table, "empty"] == 14
    assert lines["array", "one"] == 16
    assert ("not",) not in lines


@pytest.mark.parametrize(
    "text", ["=", "a", "a =", "[a", "[[a]", "a = [1 2]", "a = {b=1 c=2}", '"\\q" = 1', "a = {,}"]
)
def test_what_is_malformed_ends_the_search(text: str) -> None:
    found = locate(f"first = 1\n{text}\n")
    assert found.lines["first",] == 1
    assert found.too_deep is None


@pytest.mark.parametrize(
    "text",
    [
        "\na = " + "[" * (MOST_LEVELS + 1),
        "\na = " + "{a=" * (MOST_LEVELS + 1),
        "\n" + "a." * MOST_LEVELS + "a = 1",
        "\n[" + "a." * MOST_LEVELS + "a]",
    ],
)
def test_too_many_levels_are_told_with_their_line(text: str) -> None:
    assert locate(text).too_deep == 2


@given(trees())
def test_every_key_of_a_document_is_found(tree: dict[str, Any]) -> None:
    lines = locate(document(tree)).lines

    def check(place: tuple[str | int, ...], value: object) -> None:
        assert not place or place in lines
        inner: Any = value.items() if isinstance(value, dict) else ()
        inner = enumerate(value) if isinstance(value, list) else inner
        for key, one in inner:
            check((*place, key), one)

    check((), tree)


@given(st.text(alphabet="[]{}.=\"'\\\n #,a1-", max_size=80))
def test_the_search_ends_whatever_the_text(text: str) -> None:
    for line in locate(text).lines.values():
        assert 1 <= line <= text.count("\n") + 1
