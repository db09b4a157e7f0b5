"""Offset cursors are recognised by the server's own cursors, and nothing else is taken for one."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alli_async._listing.cursors import OffsetCursors


def coded(text: str, *, urlsafe: bool = False) -> str:
    """A text in base64; with `urlsafe` in its other alphabet and without padding."""
    raw = text.encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=") if urlsafe else base64.b64encode(raw).decode()


FORMS: dict[str, Callable[[int], str]] = {
    "number": "{}".format,
    "text": "o:{}:x".format,
    "offset": lambda n: coded(f"offset:{n}"),
    "version": lambda n: coded(f"v2:{n}:x"),
    "without padding": lambda n: coded(f'{{"o":{n}}}', urlsafe=True),
    "other alphabet": lambda n: coded(f"~~~???{n}", urlsafe=True),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shift", [0, -1], ids=["rows before", "index of the last row"])
def test_offsets_are_recognised_by_the_servers_own_cursors(form: str, shift: int) -> None:
    write = FORMS[form]
    found = OffsetCursors.agreeing([(write(rows + shift), rows) for rows in (50, 100, 150)])
    assert found is not None
    for rows in (1, 7, 999, 1234, 100_000):
        assert found.cursor(rows) == write(rows + shift)
        assert found.rows_before(write(rows + shift)) == rows


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shift", [0, -1], ids=["rows before", "index of the last row"])
def test_a_single_cursor_is_guessed_where_it_holds_the_count_of_the_rows(form: str, shift: int) -> None:
    write = FORMS[form]
    found = OffsetCursors.guess(write(50 + shift), 50)
    assert found is not None
    assert found.cursor(73) == write(73 + shift)


@pytest.mark.parametrize(
    ("cursor", "rows"),
    [
        ("8", 47),
        ("100", 47),
        ("abc", 50),
        ("", 0),
        ("1704067205000", 50),
        (coded("after:1704067202774.559:17"), 50),
        ("Q29udmVyc2F0aW9uOjUw!", 51),
        ("050", 50),
        ("\xff50\ud800", 3),
    ],
)
def test_a_cursor_that_counts_something_else_is_not_guessed_for_an_offset(cursor: str, rows: int) -> None:
    assert OffsetCursors.guess(cursor, rows) is None


@pytest.mark.parametrize(
    "cursors",
    [
        ["50"],
        ["50", "100", "151"],
        ["a", "b", "c"],
        [coded("after:1704067202774.559:17"), coded("after:1704067302774.5:66"), coded("after:1:2")],
        ["====", "=", "\xff"],
        ["050", "100", "150"],
        [coded("offset:50"), "100", "150"],
        [coded("a:50"), coded("b:100"), coded("c:150")],
    ],
)
def test_cursors_that_are_no_offsets_are_not_taken_for_them(cursors: list[str]) -> None:
    assert OffsetCursors.agreeing(list(zip(cursors, (50, 100, 150), strict=False))) is None


def test_digits_inside_base64_are_not_taken_for_the_offset() -> None:
    # "MTUwMA==" is 1500 in base64, and holds no number of its own that counts anything.
    found = OffsetCursors.agreeing([(coded("1500"), 1500), (coded("1550"), 1550)])
    assert found is not None
    assert found.cursor(1600) == coded("1600")
    # "NTA" is 50 without padding, "aaaa" is text in every encoding.
    assert OffsetCursors.guess("NTA", 50) is not None
    assert OffsetCursors.guess("aaaa", 50) is None


def test_a_number_before_the_offset_does_not_hide_it() -> None:
    found = OffsetCursors.agreeing([(f"2:{rows}:2024", rows) for rows in (50, 100)])
    assert found is not None
    assert found.cursor(77) == "2:77:2024"


def test_cursors_of_another_list_of_the_same_server_are_learnt_from_one_of_them() -> None:
    known = OffsetCursors.guess(coded("list-a:50"), 50)
    assert known is not None
    other = known.learn(coded("list-b:20"), 20)
    assert other is not None
    assert other.cursor(30) == coded("list-b:30")
    assert known.learn(coded("list-b:19"), 20) is None  # the index of the last row, and not a count
    assert known.learn("list-b:20", 20) is None  # another encoding
    assert known.learn("token", 20) is None


def test_the_place_of_a_cursor_of_another_form_is_not_known() -> None:
    known = OffsetCursors.guess(coded("offset:50"), 50)
    assert known is not None
    for cursor in ("50", "offset:50", coded("offset:x"), coded("other:50"), "%%%", ""):
        assert known.rows_before(cursor) is None


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 100_000), st.integers(1, 100_000), st.integers())
def test_an_encrypted_offset_is_never_taken_for_an_offset(one: int, other: int, seed: int) -> None:
    draw = random.Random(seed)
    cursors = [(base64.b64encode(draw.randbytes(24)).decode(), rows) for rows in (one, one + other)]
    assert OffsetCursors.agreeing(cursors) is None
