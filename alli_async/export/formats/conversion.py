"""Conversations as Arrow tables, when some of them are not what the columns take."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from ..._transport.wire import decoder, repair_surrogates
from ...errors import DecodeError
from ...models import Conversation, RawTranscript
from ..records import Quarantined
from .arrow import flat_tables
from .projection import EVERYTHING, Projection

_decode = decoder(Conversation)
# One batch at a time: a conversion takes memory, and the others go on with their requests meanwhile.
_converting = threading.Lock()


def tables_of(
    records: Sequence[RawTranscript], run: int, projection: Projection = EVERYTHING
) -> tuple[list[tuple[Any, Any]], list[Quarantined]]:
    """Conversations and chats as pairs of tables, and the conversations that no column takes.

    Args:
        records: The conversations.
        run: The number of the run.
        projection: The columns.
    """
    bad: list[Quarantined] = []
    try:
        with _converting:
            found = [flat_tables([record.json for record in records], run, projection)] if records else []
    except (msgspec.DecodeError, ValueError):
        # Something in one of them is not what the columns take: each by itself, then.
        alone = [_alone(record, run, projection, bad) for record in records]
        found = [each for each in alone if each is not None]
    return found, bad


def _alone(
    record: RawTranscript, run: int, projection: Projection, bad: list[Quarantined]
) -> tuple[Any, Any] | None:
    """A conversation's tables, in which half a pair of surrogates is repaired; None if it is bad."""
    try:
        return flat_tables([repair_surrogates(record.json)], run, projection)
    except (msgspec.DecodeError, ValueError) as error:
        text = record.json.decode("utf-8", "replace")
        bad.append(Quarantined(id=record.id, why=_why(record.json, error), record=text))
        return None


def _why(record: bytes, error: Exception) -> str:
    """Why a record cannot be written: where it breaks the contract, else what the columns do not take."""
    try:
        _decode(record)
    except DecodeError as found:
        return found.message
    return str(error)
