"""Conversations that earlier runs could not make whole: asked for again, each by its id."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial

from .._bulk.chats import all_chats, fetch_chats
from .._bulk.lenient import keeping_body
from .._bulk.shapes import RAW
from .._bulk.tasks import concurrently
from .._transport import wire
from .._transport.filters import Filters
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import (
    AlliTimeoutError,
    BadRequestError,
    DecodeError,
    IncompleteError,
    NotFoundError,
    PermissionDeniedError,
    ResponseTooLargeError,
    ServerError,
)
from ..models import RawTranscript, Skipped
from .journal import Run
from .records import Missing

# What can be wrong with one conversation alone. That of all there are only those few are asked for, and each of
# them failed before, is why a server's error is taken for the conversation's.
_ITS_OWN = (
    AlliTimeoutError,
    BadRequestError,
    DecodeError,
    IncompleteError,
    NotFoundError,
    PermissionDeniedError,
    ResponseTooLargeError,
    ServerError,
)
_AT_A_TIME = 16


def missing_in(runs: Sequence[Run]) -> list[Missing]:
    """The conversations that are not whole after these runs, oldest first, as they were told of last."""
    found: dict[str, Missing] = {}
    for run in runs:
        for each in run.plan.again:
            # It was asked for: either it is told of once more, or it is there.
            found.pop(each, None)
        found.update((each.id, each) for commit in run.ledger.commits.values() for each in commit.incomplete)
    return list(found.values())


async def ask_again(
    session: Session, filters: Filters, ids: Sequence[str]
) -> AsyncGenerator[RawTranscript | Skipped, None]:
    """Each of these conversations with all its chats, or why it still cannot be had.

    Args:
        session: Where the requests go.
        filters: Of the export; what they say of variables holds here too.
        ids: Of the conversations.

    Raises:
        AlliError: What is wrong is not about one conversation.
    """
    query = wire.query([(name, str(value)) for name, value in filters.pairs if name == "variables"])
    for start in range(0, len(ids), _AT_A_TIME):
        some = ids[start : start + _AT_A_TIME]
        for each in await concurrently([_whole(session, query, one) for one in some]):
            yield each


async def _whole(session: Session, query: str, conversation_id: str) -> RawTranscript | Skipped:
    request = Request("getConversation", "GET", wire.conversation_path(conversation_id), query)
    fetch = partial(fetch_chats, session, conversation_id, keeping_body(RAW.chats))
    try:
        item = await session.request(request, keeping_body(RAW.conversation))
        return RAW.join(item, await all_chats(fetch, conversation_id), False)
    except _ITS_OWN as error:
        return Skipped(conversation_id, error)
