"""Conversations that earlier runs could not make whole: asked for again, each by its id."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial

from .._aio.tasks import concurrently
from .._listing.filters import Filters
from .._listing.page_reader import BadRow, PageReader, keeping_body
from .._listing.walks import StuckError, Walk
from .._transcripts.chats import all_chats, fetch_chats
from .._transcripts.codecs import RAW_CODEC, RawItem
from .._transport import wire
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import (
    AlliTimeoutError,
    BadRequestError,
    ConfigurationError,
    DecodeError,
    IncompleteError,
    NotFoundError,
    PermissionDeniedError,
    ResponseTooLargeError,
    ServerError,
)
from ..models import Order, RawTranscript, Skipped, second_of
from .commit_log import RunLog
from .records import Incomplete, RunPlan

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


def key_of(missing: Incomplete) -> object:
    """What tells a missing conversation from others: its id, or the span of a row that could not be listed."""
    return missing.id or missing.span


def missing_in(runs: Sequence[RunLog]) -> dict[object, Incomplete]:
    """The conversations that are not whole after these runs, by their keys, as they were told of last."""
    found: dict[object, Incomplete] = {}
    for run in runs:
        for key in (*run.plan.again, *run.plan.again_spans):
            # It was asked for: either it is told of once more, or it is there.
            found.pop(key, None)
        commits = run.state.commits.values()
        found.update((key_of(each), each) for commit in commits for each in commit.incomplete)
    return found


def ask_for_missing(plan: RunPlan, runs: Sequence[RunLog]) -> None:
    """Have a run ask again for what earlier ones could not make whole."""
    missing = missing_in(runs).values()
    plan.again = [each.id for each in missing if each.id is not None]
    plan.again_spans = [each.span for each in missing if each.id is None and each.span is not None]


async def list_spans(
    session: Session, filters: Filters, spans: Sequence[tuple[float, float]]
) -> tuple[list[str], list[Skipped]]:
    """List the conversations between some first chat times once more.

    Returns:
        Their ids, and the rows that still cannot be listed.
    """
    pages: PageReader[RawItem] = PageReader(session, filters, RAW_CODEC.list_page)
    ids: dict[str, None] = {}
    bad: list[Skipped] = []
    for span in spans:
        second = second_of(span[1])
        window = filters.within(span[0] - second, span[1] + second)
        walk: Walk[RawItem] = Walk(pages, Order.FIRST_CHAT_TIME_ASC, window)
        try:
            while (entries := await walk.next()) is not None:
                for entry in entries:
                    if isinstance(entry, BadRow):
                        bad.append(Skipped(None, entry.error, span))
                    else:
                        ids[entry.id] = None
        except StuckError as stuck:
            bad.append(Skipped(None, stuck.error, span))
    return list(ids), bad


async def ask_again(
    session: Session, filters: Filters, ids: Sequence[str]
) -> AsyncGenerator[RawTranscript | Skipped, None]:
    """Fetch each of these conversations with all its chats; where one still cannot be had, give why.

    Args:
        session: Where the requests go.
        filters: The filters of the export, whose variables are asked for here too.
        ids: The ids of the conversations.

    Raises:
        AlliError: What is wrong is not about one conversation.
    """
    query = filters.variables_query()
    for start in range(0, len(ids), _AT_A_TIME):
        some = ids[start : start + _AT_A_TIME]
        for each in await concurrently([_whole(session, query, one) for one in some]):
            yield each


async def _whole(session: Session, query: str, conversation_id: str) -> RawTranscript | Skipped:
    fetch = partial(fetch_chats, session, conversation_id, keeping_body(RAW_CODEC.chats))
    try:
        path = wire.conversation_path(conversation_id)
    except ConfigurationError as error:
        # The id cannot stand in a path; so nothing was sent.
        return Skipped(conversation_id, DecodeError(error.message, path="$.id"))
    request = Request("getConversation", "GET", path, query)
    try:
        item = await session.request(request, keeping_body(RAW_CODEC.conversation))
        return RAW_CODEC.join(item, await all_chats(fetch, conversation_id), False)
    except _ITS_OWN as error:
        if error.is_outage:
            raise
        return Skipped(conversation_id, error)
