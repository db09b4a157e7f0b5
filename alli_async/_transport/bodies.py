"""The bodies of the smaller operations: what is sent, checked, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Struct, field

from ..errors import ConfigurationError
from ..models import (
    UNSET,
    ConversationState,
    ConversationUpdate,
    DailyCounts,
    Feedback,
    FeedbackReason,
    UnsetType,
)
from . import wire
from .checks import checked_texts

EnumT = TypeVar("EnumT", bound=StrEnum)


class Running(Struct, rename="camel"):
    """Whether an answer is being made."""

    is_running: bool


class FeedbackRequest(Struct, rename="camel"):
    """What is said of an answer."""

    rating: bool | UnsetType | None = UNSET
    feedback_selection: list[FeedbackReason] | UnsetType | None = UNSET
    suggested_answer: str | UnsetType | None = UNSET


class Title(Struct):
    """A new title."""

    title: str


class BulkUpdate(Struct, rename="camel", omit_defaults=True):
    """What to change, and in which conversations."""

    conversation_info: ConversationUpdate
    conversation_ids: list[str] | None = None
    user_ids: list[str] | None = None
    llm_app_ids: list[str] | None = None
    category_ids: list[str] | None = None


class Days(Struct, rename="camel"):
    """A span of days, both ends included."""

    start_date: str
    end_date: str


class _DailyAnswer(Struct):
    result: DailyCounts = field(default_factory=DailyCounts)


decode_running = wire.decoder(Running)
decode_feedback = wire.decoder(Feedback)
_decode_daily_answer = wire.decoder(_DailyAnswer)


def daily_request(first: date, last: date) -> wire.Request:
    """Asks for the counts of these days; by contract a GET with a JSON body."""
    body = wire.encode("days", Days(first.isoformat(), last.isoformat()))
    return wire.Request("getDailyConversationCount", "GET", "/webapi/conversation_daily_count", body=body)


def decode_daily(body: bytes) -> DailyCounts:
    """Daily counts, or the failure that an answer reports inside."""
    # Beside the errors stands a result that may be anything.
    if error := wire.reported_error(body):
        raise error
    return _decode_daily_answer(body).result


def member(name: str, kind: type[EnumT], value: Any) -> EnumT:
    """The member of an enum, by itself or by its code.

    Raises:
        ConfigurationError: There is none.
    """
    try:
        return kind(value)
    except ValueError:
        raise ConfigurationError(f"{name}: expected one of {', '.join(kind)}, got {value!a}") from None


def checked_update(update: ConversationUpdate) -> ConversationUpdate:
    """An update with its values checked.

    Raises:
        ConfigurationError: Nothing is set, or a value cannot be right.
    """
    state, assignee, category_ids, title = update.state, update.assignee, update.category_ids, update.title
    if state is UNSET and assignee is UNSET and category_ids is UNSET and title is UNSET:
        raise ConfigurationError("nothing is set: give state, assignee, category_ids or title")
    for name, value in (("assignee", assignee), ("title", title)):
        if not isinstance(value, (str, UnsetType, type(None))):
            raise ConfigurationError(f"{name}: expected a text or None, got {value!a}")
    if not isinstance(state, (UnsetType, type(None))):
        state = member("state", ConversationState, state)
    if not isinstance(category_ids, (UnsetType, type(None))):
        # An empty list is meant here: it takes the conversation out of every category.
        category_ids = checked_texts("category_ids", category_ids, may_be_empty=True)
    return ConversationUpdate(state=state, assignee=assignee, category_ids=category_ids, title=title)


def day(name: str, value: date | str) -> date:
    """A day, given as a date or as YYYY-MM-DD.

    Raises:
        ConfigurationError: It is neither.
    """
    try:
        if isinstance(value, datetime):
            return value.date()
        return value if isinstance(value, date) else date.fromisoformat(value)
    except (ValueError, TypeError):
        raise ConfigurationError(f"{name}: expected a date or YYYY-MM-DD, got {value!a}") from None


def checked_feedback(
    rating: bool | UnsetType | None,
    selection: Sequence[FeedbackReason | str] | UnsetType | None,
    suggested_answer: str | UnsetType | None,
) -> FeedbackRequest:
    """Feedback with its values checked.

    Raises:
        ConfigurationError: Nothing is set, or a value cannot be right.
    """
    if rating is UNSET and selection is UNSET and suggested_answer is UNSET:
        raise ConfigurationError("nothing is set: give rating, selection or suggested_answer")
    if not isinstance(rating, (bool, UnsetType, type(None))):
        raise ConfigurationError(f"rating: expected True, False or None, got {rating!a}")
    if not isinstance(suggested_answer, (str, UnsetType, type(None))):
        raise ConfigurationError(f"suggested_answer: expected a text or None, got {suggested_answer!a}")
    if isinstance(selection, (UnsetType, type(None))):
        return FeedbackRequest(rating, selection, suggested_answer)
    # An empty list is meant here: the contract allows it.
    texts = checked_texts("selection", selection, may_be_empty=True)
    reasons = [member("selection", FeedbackReason, each) for each in texts]
    return FeedbackRequest(rating, reasons, suggested_answer)
