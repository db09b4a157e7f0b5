"""Query parameters and request bodies: checked by the contract, refused with the documented errors."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .errors import bad_json, bad_parameter
from .options import Options

Pairs = Sequence[tuple[str, str]]
Window = tuple[float | None, float | None]

State = Literal["no", "eb", "ea", "eu", "wa", "wu", "wu2", "in", "pnd", "eo", "lck"]
Reason = Literal["not_relevant", "inaccurate", "not_best_answer"]
DEFAULT_ORDER = "LAST_CHAT_TIME_DESC"
_ORDERS = (DEFAULT_ORDER, "LAST_CHAT_TIME_ASC", "FIRST_CHAT_TIME_DESC", "FIRST_CHAT_TIME_ASC")
_LONGEST_RANGE_DAYS = 3660
_WHOLE = re.compile(r"[-+]?[0-9]+")


class Filters(Struct, frozen=True, kw_only=True):
    """The filters of a list; hashable, as a key of the cached views."""

    user_ids: frozenset[str] | None
    llm_app_id: str | None
    category_id: str | None
    last_window: Window
    first_window: Window
    search_term: str | None
    active_only: bool
    background_running: bool | None


class ListQuery(Struct, frozen=True, kw_only=True):
    """A request for a page of conversations."""

    filters: Filters
    cursor: str | None
    variables: frozenset[str] | None
    page_size: int
    order: str


class ConversationInfo(Struct, rename="camel"):
    """The body of a PATCH."""

    state: State | UnsetType | None = UNSET
    assignee: str | UnsetType | None = UNSET
    category_ids: list[str] | UnsetType | None = UNSET
    title: str | UnsetType | None = UNSET


class BulkUpdate(Struct, rename="camel", kw_only=True):
    """The body of a bulk update."""

    user_ids: list[str] | None = None
    llm_app_ids: list[str] | None = None
    category_ids: list[str] | None = None
    conversation_ids: list[str] | None = None
    conversation_info: ConversationInfo


class Title(Struct):
    """The body of a PUT of the title."""

    title: str


class Feedback(Struct, rename="camel"):
    """The body of a feedback."""

    rating: bool | UnsetType | None = UNSET
    feedback_selection: list[Reason] | None = None
    suggested_answer: str | None = None


class Range(Struct, rename="camel"):
    """The body of a request for daily counts."""

    start_date: str
    end_date: str


_Body = TypeVar("_Body", bound=Struct)


def body(raw: bytes, kind: type[_Body]) -> _Body:
    """Decode the body of a request."""
    try:
        fields = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise bad_json("The request body is not valid JSON") from None
    if not isinstance(fields, dict):
        raise bad_json("The request body must be a JSON object")
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise bad_parameter(str(error)) from None


def list_query(pairs: Pairs, options: Options) -> ListQuery:
    """The parameters of a list."""
    one = _Single(pairs)
    time = partial(_time, one, options)
    filters = Filters(
        user_ids=frozenset(value for name, value in pairs if name == "userIds") or None,
        llm_app_id=one.text("llmAppId"),
        category_id=one.text("categoryId"),
        last_window=(time("startedAt"), time("endAt")),
        first_window=(time("firstChatStartedAt"), time("firstChatEndAt")),
        search_term=one.text("searchTerm"),
        active_only=one.boolean("activeOnly") or False,
        background_running=one.boolean("backgroundRunning"),
    )
    order = one.text("order")
    if order is None:
        order = DEFAULT_ORDER
    elif order not in _ORDERS:
        raise bad_parameter(f"order must be one of {', '.join(_ORDERS)}")
    return ListQuery(
        filters=filters,
        cursor=one.text("cursor"),
        variables=variables(pairs),
        page_size=one.integer("pageSize", 50, 50),
        order=order,
    )


def _time(one: _Single, options: Options, name: str) -> float | None:
    """A time filter, in the unit of the wire, as the server uses it."""
    number = one.number(name, whole=options.filter_numbers == "whole")
    if number is None or options.filter_numbers != "seconds":
        return number
    second = 1000 if options.unit == "ms" else 1
    return math.floor(number / second) * float(second)


def variables(pairs: Pairs) -> frozenset[str] | None:
    """The names of the variables to show, from one comma-separated value; None for all."""
    names = _Single(pairs).text("variables")
    return None if names is None else frozenset(names.split(","))


def page_number(pairs: Pairs) -> int:
    """The number of a page of chats."""
    return _Single(pairs).integer("pageNo", 1, 10**18)


def days(asked: Range) -> tuple[date, date]:
    """The first and the last day of a range.

    Raises:
        ValueError: A date is wrong, or the range is backwards or too long.
    """
    first, last = _day(asked.start_date), _day(asked.end_date)
    if not 0 <= (last - first).days <= _LONGEST_RANGE_DAYS:
        raise ValueError(f"endDate must be from startDate to {_LONGEST_RANGE_DAYS} days later")
    return first, last


def _day(text: str) -> date:
    day = date.fromisoformat(text)
    if day.isoformat() != text:  # fromisoformat() also accepts 20240101 and 2024-W01-1
        raise ValueError(f"not of the form YYYY-MM-DD: {text!r}")
    return day


class _Single:
    """Parameters that may be given once; a second value is refused."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def text(self, name: str) -> str | None:
        values = [value for key, value in self._pairs if key == name]
        if len(values) > 1:
            raise bad_parameter(f"{name} must be given once")
        return values[0] if values else None

    def number(self, name: str, *, whole: bool = False) -> float | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise bad_parameter(f"{name} must be a number")
        if whole and not _WHOLE.fullmatch(text):
            raise bad_parameter(f"{name} must be a whole number")
        return number

    def integer(self, name: str, default: int, largest: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else 0
        if not 1 <= number <= largest:
            raise bad_parameter(f"{name} must be an integer from 1 to {largest}")
        return number

    def boolean(self, name: str) -> bool | None:
        text = self.text(name)
        if text is None:
            return None
        if text not in {"true", "false"}:
            raise bad_parameter(f"{name} must be true or false")
        return text == "true"
