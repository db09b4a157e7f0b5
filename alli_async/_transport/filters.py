"""The filters of a list of conversations: written down once, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from ..errors import ConfigurationError
from . import wire

__all__ = ["ConversationFilters", "Filters"]


class ConversationFilters(TypedDict, total=False):
    """What selects conversations, in `list`, `transcripts` and `export` alike. None means: do not select.

    Times are an aware `datetime`, which is sent in the unit that the server itself uses, or the wire's own
    number, which is sent as it is. Whether a bound is included is the server's to say; it is not documented.

    Attributes:
        user_ids: Of any of these users.
        llm_app_id: Of this app.
        category_id: In this category.
        started_at: With a last chat from this time on.
        end_at: With a last chat up to this time.
        first_chat_started_at: With a first chat from this time on.
        first_chat_end_at: With a first chat up to this time.
        search_term: That hold this text.
        variables: Does not select: the names of the variables that are wanted with each conversation.
        active_only: That have not ended.
        background_running: That are being answered just now (True), or not (False).
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
_CHANGING = ("activeOnly", "backgroundRunning", "categoryId", "searchTerm")


@dataclass(frozen=True, slots=True)
class Filters:
    """Checked filters, as pairs for the query; a datetime waits for the server's unit to be known."""

    pairs: tuple[tuple[str, str | datetime], ...]

    @classmethod
    def checked(cls, filters: ConversationFilters) -> Filters:
        """Check every value.

        Raises:
            ConfigurationError: A value that cannot be right; the message names it.
            TypeError: A name that is no filter.
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
        """Whether there is a datetime among them."""
        return any(isinstance(value, datetime) for _, value in self.pairs)

    @property
    def on_last_chat(self) -> bool:
        """Whether the last chat's time selects."""
        return any(name in ("startedAt", "endAt") for name, _ in self.pairs)

    @property
    def on_first_chat(self) -> bool:
        """Whether the first chat's time selects."""
        return any(name in _FIRST_CHAT for name, _ in self.pairs)

    @property
    def on_what_changes(self) -> bool:
        """Whether a conversation can leave the list while it is walked."""
        return any(name in _CHANGING for name, _ in self.pairs)

    def within(self, start: float | None, end: float | None, *, keep: bool = True) -> Filters:
        """The same filters, of first chat times from `start` to `end`.

        Args:
            start: In the server's unit; None for the bound there is.
            end: The same.
            keep: Whether there are such bounds, where they were set; else there are none.
        """
        bounds = {} if not keep else {name: value for name, value in self.pairs if name in _FIRST_CHAT}
        for name, bound in zip(_FIRST_CHAT, (start, end), strict=True):
            if bound is not None:
                bounds[name] = wire.epoch_text(bound, milliseconds=True)
        return Filters((*(pair for pair in self.pairs if pair[0] not in _FIRST_CHAT), *bounds.items()))

    def without_end(self) -> tuple[Filters, str | datetime | None]:
        """The same filters without a bound on the end of the last chat's time; and that bound."""
        end = next((value for name, value in self.pairs if name == "endAt"), None)
        return Filters(tuple(pair for pair in self.pairs if pair[0] != "endAt")), end

    def query(self, *, milliseconds: bool) -> list[tuple[str, str]]:
        """The pairs as text, datetimes in the server's unit."""
        return [
            (name, value if isinstance(value, str) else wire.epoch_text(value, milliseconds=milliseconds))
            for name, value in self.pairs
        ]


def text(name: str, value: Any) -> list[str]:
    """A non-empty string."""
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name}: expected a text that is not empty, got {value!a}")
    wire.query([(name, value)])
    return [value]


def texts(name: str, value: Any, *, may_be_empty: bool = False) -> list[str]:
    """A list of strings; as a filter, none would select everything, which nobody means by an empty list."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{name}: expected a list of texts, got {value!a}")
    found = [item for each in value for item in text(name, each)]
    if not found and not may_be_empty:
        raise ConfigurationError(f"{name}: an empty list; leave it out to select everything")
    return found


def names(name: str, value: Any) -> list[str]:
    """One or more names as one comma-separated value."""
    found = texts(name, value)
    if bad := next((each for each in found if "," in each), None):
        raise ConfigurationError(f"{name}: a name cannot hold a comma, got {bad!a}")
    return [",".join(found)]


def _flag(name: str, value: Any) -> list[str]:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}: expected True or False, got {value!a}")
    return ["true" if value else "false"]


def _time(name: str, value: Any) -> list[str | datetime]:
    checked = wire.epoch(name, value)
    return [checked if isinstance(checked, datetime) else wire.epoch_text(checked, milliseconds=True)]


def _check_span(filters: ConversationFilters, start: str, end: str) -> None:
    first, last = filters.get(start), filters.get(end)
    if first is None or last is None or isinstance(first, datetime) is not isinstance(last, datetime):
        return
    if first > last:  # type: ignore[operator]  # the line above: both datetimes, or both numbers
        raise ConfigurationError(f"{start}: lies after {end} ({first} > {last})")


_CHECKS: dict[str, tuple[str, Any]] = {
    "user_ids": ("userIds", texts),
    "llm_app_id": ("llmAppId", text),
    "category_id": ("categoryId", text),
    "started_at": ("startedAt", _time),
    "end_at": ("endAt", _time),
    "first_chat_started_at": ("firstChatStartedAt", _time),
    "first_chat_end_at": ("firstChatEndAt", _time),
    "search_term": ("searchTerm", text),
    "variables": ("variables", names),
    "active_only": ("activeOnly", _flag),
    "background_running": ("backgroundRunning", _flag),
}
