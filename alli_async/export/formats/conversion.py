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
    transcripts: Sequence[RawTranscript], run: int, projection: Projection = EVERYTHING
) -> tuple[list[tuple[Any, Any]], list[Quarantined]]:
    """Conversations and chats as pairs of tables, and the conversations that no column takes.

    Args:
        transcripts: The conversations.
        run: The number of the run.
        projection: The columns.
    """
    bad: list[Quarantined] = []
    try:
        with _converting:
            found = [flat_tables([each.json for each in transcripts], run, projection)] if transcripts else []
    except (msgspec.DecodeError, ValueError):
        # Something in one of them is not what the columns take: each by itself, then.
        alone = [_alone(each, run, projection, bad) for each in transcripts]
        found = [each for each in alone if each is not None]
    return found, bad


def _alone(
    transcript: RawTranscript, run: int, projection: Projection, bad: list[Quarantined]
) -> tuple[Any, Any] | None:
    """A conversation's tables, in which half a pair of surrogates is repaired; None if it is bad."""
    try:
        return flat_tables([repair_surrogates(transcript.json)], run, projection)
    except (msgspec.DecodeError, ValueError) as error:
        text = transcript.json.decode("utf-8", "replace")
        bad.append(Quarantined(id=transcript.id, why=_why(transcript.json, error), text=text))
        return None


def _why(conversation: bytes, error: Exception) -> str:
    """Why a conversation cannot be written: where it breaks the contract, else what the columns do not take."""
    try:
        _decode(conversation)
    except DecodeError as found:
        return found.message
    return str(error)
