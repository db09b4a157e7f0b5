"""The filters of a list of conversations, checked before a request is sent, and what each means for a reader."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from .._transport import wire
from .._transport.checks import checked_names, checked_text, checked_texts
from ..config import checked_flag
from ..errors import ConfigurationError
from ..models import units_per_second_of
from .bounds import TimeBounds

__all__ = ["ConversationFilters", "Filters"]


class ConversationFilters(TypedDict, total=False):
    """The filters of `list`, `transcripts` and `export`. None means no restriction.

    A time is an aware `datetime`, which is sent in the unit that the server itself uses, or the wire's own number,
    which is sent as it is. Whether a time equal to the bound is selected is up to the server.

    Attributes:
        user_ids: Conversations of any of these users.
        llm_app_id: Conversations with this app.
        category_id: Conversations in this category.
        started_at: Conversations whose LAST chat was at this time or later.
        end_at: Conversations whose LAST chat was at this time or earlier.
        first_chat_started_at: Conversations whose first chat was at this time or later.
        first_chat_end_at: Conversations whose first chat was at this time or earlier.
        search_term: Conversations that contain this text.
        variables: Selects nothing: the names of the variables to return with each conversation.
        active_only: Only conversations that have not ended.
        background_running: Only conversations for which an answer is being generated (True), or the others
            (False).
    """

    user_ids: Sequence[str] | None
    llm_app_id: str | None
    category_id: str | None
    started_at: datetime | float | None
    end_at: datetime | float | None
    first_chat_started_at: datetime | float | None
    first_chat_end_at: datetime | float | None
    search_term: str | None
    variables: Sequence[str] | None
    active_only: bool | None
    background_running: bool | None


_FIRST_CHAT = ("firstChatStartedAt", "firstChatEndAt")
_LAST_CHAT = ("startedAt", "endAt")
_STARTS = (_FIRST_CHAT[0], _LAST_CHAT[0])


class UserNumber(str):
    """A time that the user gave as a number, as text. The bounds that a reader sets itself are plain texts."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Filters:
    """Checked filters, as pairs for the query. A datetime is written out once the server's unit is known.

    This is the only place that knows the wire's names of filters.
    """

    pairs: tuple[tuple[str, str | datetime], ...] = ()

    @classmethod
    def checked(cls, filters: ConversationFilters) -> Filters:
        """Check every value.

        Raises:
            ConfigurationError: A value cannot be right; the message names the filter.
            TypeError: There is no filter of this name.
        """
        pairs: list[tuple[str, str | datetime]] = []
        for name, value in filters.items():
            if name not in _CHECKS:
                raise TypeError(f"unexpected filter {name!r}; there are {', '.join(_CHECKS)}")
            if value is not None:
                wire_name, check = _CHECKS[name]
                pairs.extend((wire_name, text) for text in check(name, value))
        _check_span(filters, "started_at", "end_at")
        _check_span(filters, "first_chat_started_at", "first_chat_end_at")
        return cls(tuple(pairs))

    @property
    def needs_unit(self) -> bool:
        """Whether a datetime among the filters waits for the server's unit of time."""
        return any(isinstance(value, datetime) for _, value in self.pairs)

    @property
    def on_last_chat(self) -> bool:
        """Whether a filter restricts the last chat's time."""
        return self._has(*_LAST_CHAT)

    @property
    def on_first_chat(self) -> bool:
        """Whether a filter restricts the first chat's time."""
        return self._has(*_FIRST_CHAT)

    @property
    def selects_all(self) -> bool:
        """Whether every conversation is selected, apart from bounds on the first chat's time."""
        return not any(name not in (*_FIRST_CHAT, "variables") for name, _ in self.pairs)

    def _has(self, *names: str) -> bool:
        return any(name in names for name, _ in self.pairs)

    def user_bounds(self, units_per_second: float | None) -> TimeBounds | None:
        """The bounds on times that the user asked for, in the server's unit; None where there are none.

        Args:
            units_per_second: Units of the server's timestamps in one second; None for those of the user's numbers.
        """
        numbers = {
            name: float(_exact(value, milliseconds=units_per_second != 1))
            for name, value in self.pairs
            if isinstance(value, datetime | UserNumber)
        }
        if units_per_second is None:
            units_per_second = units_per_second_of(max(numbers.values(), default=0.0))
        first, last = (
            (numbers.get(start, -math.inf), numbers.get(end, math.inf)) for start, end in (_FIRST_CHAT, _LAST_CHAT)
        )
        return TimeBounds(first, last, units_per_second) if numbers else None

    def within(self, start: float | None, end: float | None, *, keep: bool = True) -> Filters:
        """The same filters, restricted to first chat times from `start` to `end`.

        The bounds are sent as whole numbers, rounded outwards: a server may refuse or cut fractions.

        Args:
            start: Earliest first chat time, in the server's unit; None for the bound that is set already, if any.
            end: Latest first chat time, in the server's unit; None as for `start`.
            keep: Whether a bound that is set already stays where `start` or `end` is None.
        """
        bounds = {name: value for name, value in self.pairs if name in _FIRST_CHAT} if keep else {}
        if start is not None:
            bounds[_FIRST_CHAT[0]] = str(math.floor(start))
        if end is not None:
            bounds[_FIRST_CHAT[1]] = str(math.ceil(end))
        return Filters((*(pair for pair in self.pairs if pair[0] not in _FIRST_CHAT), *bounds.items()))

    def with_last_chat_from(self, start: float) -> Filters:
        """The same filters, restricted to last chats from `start` on (in the server's unit)."""
        return Filters((*self.pairs, (_LAST_CHAT[0], str(math.floor(start)))))

    def without_last_chat(self) -> Filters:
        """The same filters without bounds on the last chat's time."""
        return Filters(tuple(pair for pair in self.pairs if pair[0] not in _LAST_CHAT))

    def without_last_chat_end(self) -> Filters:
        """The same filters without the latest time of the last chat."""
        return Filters(tuple(pair for pair in self.pairs if pair[0] != _LAST_CHAT[1]))

    def variables_query(self) -> str:
        """The query that asks for the same variables of a single conversation."""
        return wire.query([(name, str(value)) for name, value in self.pairs if name == "variables"])

    def query(self, *, milliseconds: bool, margin: float | None = None) -> list[tuple[str, str]]:
        """The pairs as text.

        Datetimes are sent in the server's unit.

        Args:
            milliseconds: Whether the server's unit is the millisecond, and not the second.
            margin: Seconds by which the bounds that the user set are sent wider, as whole numbers. 0 sends dates
                and times as whole numbers, and numbers as they were given; None sends both exactly.
        """
        return [(name, _sent(name, value, milliseconds, margin)) for name, value in self.pairs]


def _exact(value: str | datetime, *, milliseconds: bool) -> str:
    return value if isinstance(value, str) else wire.epoch_text(value, milliseconds=milliseconds)


def _sent(name: str, value: str | datetime, milliseconds: bool, margin: float | None) -> str:
    exact = _exact(value, milliseconds=milliseconds)
    if margin is None or not (isinstance(value, datetime) or (isinstance(value, UserNumber) and margin)):
        return str(exact)
    number = float(exact)
    wider = margin * (units_per_second_of(number) if isinstance(value, str) else 1000.0 if milliseconds else 1.0)
    return str(math.floor(number - wider) if name in _STARTS else math.ceil(number + wider))


def _flag(name: str, value: Any) -> list[str]:
    return ["true" if checked_flag(name, value) else "false"]


def _time(name: str, value: Any) -> list[str | datetime]:
    checked = wire.epoch(name, value)
    return [checked if isinstance(checked, datetime) else UserNumber(wire.epoch_text(checked, milliseconds=True))]


def _check_span(filters: ConversationFilters, start: str, end: str) -> None:
    first, last = filters.get(start), filters.get(end)
    if first is None or last is None or isinstance(first, datetime) is not isinstance(last, datetime):
        return
    if first > last:  # type: ignore[operator]  # the line above: both datetimes, or both numbers
        raise ConfigurationError(f"{start}: lies after {end} ({first} > {last})")


_CHECKS: dict[str, tuple[str, Any]] = {
    "user_ids": ("userIds", checked_texts),
    "llm_app_id": ("llmAppId", checked_text),
    "category_id": ("categoryId", checked_text),
    "started_at": ("startedAt", _time),
    "end_at": ("endAt", _time),
    "first_chat_started_at": ("firstChatStartedAt", _time),
    "first_chat_end_at": ("firstChatEndAt", _time),
    "search_term": ("searchTerm", checked_text),
    "variables": ("variables", checked_names),
    "active_only": ("activeOnly", _flag),
    "background_running": ("backgroundRunning", _flag),
}
