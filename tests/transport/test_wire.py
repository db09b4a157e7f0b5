"""The wire's pure functions, for any input."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alli_async import ConfigurationError, Conversation, models
from alli_async._transport import wire
from alli_async.models import to_datetime
from tests.support import conversation

pytestmark = pytest.mark.wire

NOW = datetime(2026, 1, 1, tzinfo=UTC)
any_text = st.text(st.characters(codec=None), max_size=40)


# --- paths and queries ------------------------------------------------------------------------------------


@given(any_text)
@example("Q29udmVyc2F0aW9uOjYwMDZiNTM3==")
@example("/?#%+= 日本")
@example("..x")
@example("%2e%2e")
def test_any_id_is_one_segment_that_reads_back_or_is_refused(value: str) -> None:
    try:
        segment = wire.segment("id", value)
    except ConfigurationError:
        surrogate = any("\ud800" <= char <= "\udfff" for char in value)
        assert surrogate or value in ("", ".", "..") or any(char < " " or char == "\x7f" for char in value)
        return
    assert unquote(segment, errors="strict") == value
    assert segment.isascii()
    assert not set(segment) & set("/?#&;=+ \\")


@pytest.mark.parametrize("value", ["", ".", "..", "a\r\nb", "\x00", "\x7f", "\ud800", None, 7, b"x"])
def test_what_cannot_be_a_segment_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="chat id"):
        wire.segment("chat id", value)


@given(st.lists(st.tuples(st.sampled_from(["userIds", "searchTerm"]), any_text)))
def test_any_query_reads_back_in_order_or_is_refused(pairs: list[tuple[str, str]]) -> None:
    try:
        query = wire.query(pairs)
    except ConfigurationError:
        assert any("\ud800" <= char <= "\udfff" for _, value in pairs for char in value)
        return
    found = [part.split("=", 1) for part in query.split("&")] if query else []
    assert [(name, unquote(value)) for name, value in found] == pairs


# --- times ------------------------------------------------------------------------------------------------

moments = st.datetimes(
    min_value=datetime(1974, 1, 1),
    max_value=datetime(2200, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=9))]),
)


@given(moments, st.booleans())
def test_a_datetime_reads_back_from_either_unit(moment: datetime, milliseconds: bool) -> None:
    text = wire.epoch_text(moment, milliseconds=milliseconds)
    assert "e" not in text
    assert abs(to_datetime(float(text)) - moment) <= timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1704067200123, "1704067200123"),
        (1704067200123.0, "1704067200123"),
        (1704067200123.457, "1704067200123.457"),
        (1e-7, "0.000000"),
        (0, "0"),
        (-5.5, "-5.5"),
    ],
)
def test_a_number_is_sent_as_it_is_and_never_with_an_exponent(value: float, text: str) -> None:
    assert wire.epoch_text(value, milliseconds=True) == text


@pytest.mark.parametrize("value", [datetime(2026, 1, 1), float("nan"), float("inf"), "2026-01-01", True, None])
def test_a_time_that_is_none_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="started_at"):
        wire.epoch("started_at", value)


def test_times_know_seconds_from_milliseconds() -> None:
    expected = datetime(2024, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert to_datetime(1704067200.5) == to_datetime(1704067200500) == expected
    with pytest.raises(ValueError, match="not a moment"):
        to_datetime(1e300)


# --- Retry-After ------------------------------------------------------------------------------------------


@given(st.none() | any_text, st.none() | any_text)
@example("Fri, 31 Dec 9999 23:59:59 -2359", None)
@example("Mon, 01 Jan 0001 00:00:00 +2359", "x")
@example("9" * 400, None)
def test_retry_after_never_crashes_and_is_never_negative(value: str | None, date: str | None) -> None:
    seconds = wire.retry_after(value, date, NOW)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        (" 2 ", 2.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-10", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("9" * 35, 1e9),
        ("٣", None),
        (None, None),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 -0000", 30.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
    ],
)
def test_retry_after_in_each_form(value: str | None, seconds: float | None) -> None:
    assert wire.retry_after(value, None, NOW) == seconds


def test_a_retry_after_date_is_measured_by_the_servers_own_clock() -> None:
    date = "Thu, 01 Jan 2026 10:00:00 GMT"
    assert wire.retry_after("Thu, 01 Jan 2026 10:00:07 GMT", date, NOW) == 7.0


def test_a_retry_after_date_is_measured_to_a_fraction_where_the_servers_clock_is_known() -> None:
    date, until = "Thu, 01 Jan 2026 10:00:00 GMT", "Thu, 01 Jan 2026 10:00:07 GMT"
    clock = datetime(2026, 1, 1, 10, 0, 0, 750_000, tzinfo=UTC)
    assert wire.retry_after(until, date, clock) == 6.25


# --- decoding ---------------------------------------------------------------------------------------------


surrogates = st.sampled_from([r"\ud800", r"\uDFFF", r"\ud83d\ude00", r"\\ud800", r"\\\ud800", "x", r"\"", "é"])


@given(st.lists(surrogates, max_size=12).map("".join))
def test_repairing_surrogates_makes_text_valid_and_touches_only_lone_ones(escaped: str) -> None:
    body = f'"{escaped}"'.encode()
    repaired = wire.repair_surrogates(body)
    text = msgspec.json.decode(repaired, type=str)
    assert text == "".join("�" if "\ud800" <= char <= "\udfff" else char for char in json.loads(body))
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert repaired == body


@pytest.mark.parametrize("field", ["user", "lastChatTime", "categories", "memo", "llmApp", "variables"])
def test_what_may_be_null_may_be_missing(field: str) -> None:
    document = conversation()
    del document[field]
    assert wire.decoder(Conversation)(msgspec.json.encode(document)) == wire.decoder(Conversation)(
        msgspec.json.encode(conversation(**{field: None}))
    )


def test_times_of_a_conversation_are_moments() -> None:
    found = wire.decoder(Conversation)(msgspec.json.encode(conversation()))
    assert found.created == datetime(2024, 1, 1, 0, 0, 0, 123_500, tzinfo=UTC)
    assert found.last_chat == datetime(2024, 1, 1, 0, 1, 40, 123_000, tzinfo=UTC)
    empty = wire.decoder(Conversation)(msgspec.json.encode(conversation(lastChatTime=None)))
    assert empty.last_chat is None


texts = st.text(max_size=12)
numbers = st.integers(0, 2**53) | st.floats(0, 1e15)
chats = st.builds(
    models.Chat,
    id=texts,
    sender=texts,
    message=texts,
    timestamp=numbers,
    source=st.none() | st.builds(models.ChatInputSource, web_sites=st.none() | st.lists(texts, max_size=2)),
    citations=st.none()
    | st.lists(st.builds(models.Citation, clue_id=texts, page_no=st.none() | st.integers(0, 99))),
    rating=st.none() | st.booleans(),
)
conversations = st.builds(
    Conversation,
    id=texts,
    title=texts,
    created_at=numbers,
    is_end=st.booleans(),
    chats=st.lists(chats, max_size=3),
    chat_count=st.integers(0, 10**6),
    user=st.none() | st.builds(models.User, user_id=texts, first_name=texts, last_name=texts),
    last_chat_time=st.none() | numbers,
    llm_app=st.none() | st.builds(models.LLMApp, id=texts, name=texts),
    variables=st.none() | st.dictionaries(texts, texts | st.integers(0, 9) | st.none(), max_size=3),
)


@given(conversations)
def test_structs_read_back_what_they_are_written_as(found: Conversation) -> None:
    body = msgspec.json.encode(found)
    again = wire.decoder(Conversation)(body)
    assert again == found
    assert msgspec.json.encode(again) == body


@given(
    st.sampled_from([*models.ConversationState]) | st.none() | st.just(models.UNSET),
    texts | st.none() | st.just(models.UNSET),
)
def test_an_update_is_sent_as_what_is_set_and_nothing_else(state: Any, title: Any) -> None:
    sent = json.loads(msgspec.json.encode(models.ConversationUpdate(state=state, title=title)))
    given_values = {"state": state, "title": title}
    assert sent == {name: value for name, value in given_values.items() if value is not models.UNSET}
