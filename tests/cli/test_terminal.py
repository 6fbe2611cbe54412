"""Tables: numbers are never cut or wrapped, whatever the width; names keep their right part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipack.report.terminal import render
from mipack.show.blocks import Column, Table, count, quotient, share, volume

COLUMNS = (Column("group", "name"), Column("kind", "word"), Column("why", "text"), Column("MACs"))
NAMES = st.text("abc/._:", min_size=1, max_size=90)
NUMBERS = st.integers(0, 10**18).map(lambda n: f"{n:,}")
TEXTS = st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=12).map(" ".join)


@given(
    rows=st.lists(st.tuples(NAMES, st.just("inner"), TEXTS, NUMBERS), min_size=1, max_size=6),
    width=st.one_of(st.none(), st.integers(20, 200)),
    styled=st.booleans(),
)
def test_numbers_and_words_survive_any_width(
    rows: list[tuple[str, ...]], width: int | None, styled: bool
) -> None:
    text = render([Table(COLUMNS, tuple(rows))], width=width, styled=styled)
    words = text.split()
    for name, kind, _, number in rows:
        assert number in words and kind in words
        assert any(name.endswith(word.removeprefix("...")) for word in words)


@given(rows=st.lists(st.tuples(NAMES, st.just("inner"), TEXTS, NUMBERS), min_size=1, max_size=6))
def test_a_pipe_gets_every_row_whole_and_on_one_line(rows: list[tuple[str, ...]]) -> None:
    lines = render([Table(COLUMNS, tuple(rows))]).splitlines()
    assert len(lines) == 1 + len(rows)
    for line, row in zip(lines[1:], rows, strict=True):
        assert all(cell in line for cell in row)
    assert "\x1b" not in "".join(lines)


def test_a_narrow_terminal_shortens_names_from_the_left() -> None:
    table = Table((Column("group", "name"), Column("size")), (("/encoder/layer.0/dense:out", "1"),))
    lines = render([table], width=24).splitlines()
    assert lines[1] == "...yer.0/dense:out     1" and max(map(len, lines)) <= 24


def test_tables_stand_apart_from_text() -> None:
    table = Table((Column("a"),), (("1",),))
    assert render(["before", table, "after", "last"]) == "before\n\na\n1\n\nafter\nlast\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (99_999, "99,999"),
        (100_000, "100 k"),
        (999_499, "999 k"),
        (999_500, "1.00 M"),
        (5_035_264, "5.04 M"),
        (12_345_678, "12.3 M"),
        (171_000_000_000, "171 G"),
        (None, "-"),
    ],
)
def test_counts(number: int | None, text: str) -> None:
    assert count(number) == text


def test_bytes_shares_and_quotients() -> None:
    assert [volume(n) for n in (None, 999, 1000, 930_856)] == ["-", "999 B", "1.00 kB", "931 kB"]
    assert share(0.4567) == "45.7 %" and share(None) == "-"
    assert quotient(1, 4) == "0.250" and quotient(1, 0) == "-"
