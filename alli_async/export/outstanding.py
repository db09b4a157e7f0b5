"""Conversations that earlier runs could not read whole: the next runs ask for them again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from .._aio.tasks import concurrently
from .._listing.filters import Filters
from .._listing.page_reader import BadRow, PageReader
from .._listing.single_rows import StuckError
from .._listing.walks import Walk
from .._transcripts.codec import RAW_CODEC, RawRow
from .._transcripts.fetcher import ChatFetcher
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
from ..models import Order, RawTranscript, Skipped, units_per_second_of
from .commit_log import RunLog
from .holdings import Holdings
from .records import Deleted, Incomplete, Quarantined, RunPlan
from .undecodable import BodyKeepingCodec, keeping_body

# Errors that count as the conversation's own. Server errors are among them: only a few conversations are asked for
# here, and each has failed before.
_SINGLE_ERRORS = (
    AlliTimeoutError,
    BadRequestError,
    DecodeError,
    IncompleteError,
    NotFoundError,
    PermissionDeniedError,
    ResponseTooLargeError,
    ServerError,
)
# Number of conversations that are asked for at a time.
_AT_A_TIME = 16


class Outstanding(NamedTuple):
    """A conversation or row that the export lacks though the server has it, and the run that tried last."""

    what: Incomplete | Quarantined
    run: int

    @property
    def key(self) -> object:
        """Its identity: the id, else the row as it came, else the span in which the row lies."""
        what = self.what
        return what.id or (what.text if isinstance(what, Quarantined) else None) or what.span

    def is_asked_by(self, plan: RunPlan) -> bool:
        """Whether a run asks for it again. If so, only that run's result counts."""
        if self.what.id is not None:
            return self.what.id in plan.again
        return plan.kind == "refresh" or plan.again_list or self.what.span in plan.again_spans


def outstanding_in(runs: Sequence[RunLog]) -> dict[object, Outstanding]:
    """The conversations and rows that these runs could not read whole and have not read since, by their keys.

    Incomplete conversations come first.
    """
    found: dict[object, Outstanding] = {}
    for run in runs:
        plan = run.plan
        found = {key: each for key, each in found.items() if not each.is_asked_by(plan)}
        for commit in run.state.commits.values():
            noted: list[Incomplete | Quarantined] = [*commit.incomplete, *commit.quarantined]
            for each in (Outstanding(what, what.run or plan.run) for what in noted):
                found[each.key] = each
    for deleted in deleted_in(runs):
        found.pop(deleted, None)
    return dict(sorted(found.items(), key=lambda item: isinstance(item[1].what, Quarantined)))


def deleted_in(runs: Sequence[RunLog]) -> dict[str, Deleted]:
    """The conversations that the server does not have any more, as noticed first, by their ids."""
    found: dict[str, Deleted] = {}
    for run in runs:
        commits = run.state.commits.values()
        if found:
            written = Holdings([each.written for each in commits])
            found = {each: deleted for each, deleted in found.items() if each not in written}
        for commit in commits:
            for deleted in commit.deleted:
                found.setdefault(deleted.id, deleted)
    return found


def add_outstanding(plan: RunPlan, runs: Sequence[RunLog]) -> None:
    """Add what is outstanding after earlier runs to the plan of a run."""
    found = [each.what for each in outstanding_in(runs).values()]
    plan.again = [each.id for each in found if each.id is not None]
    if plan.kind != "refresh":  # which reads all rows anyway
        spans = [each.span for each in found if each.id is None]
        plan.again_list = None in spans
        known = {each for each in spans if each is not None}
        plan.again_spans = [] if plan.again_list else sorted(known)


async def list_again(session: Session, filters: Filters, plan: RunPlan) -> tuple[list[str], list[BadRow]]:
    """List once more the conversations between the first chat times where earlier runs could not read a row.

    Returns:
        Their ids, and the rows that still cannot be listed or decoded.
    """
    spans: list[tuple[float, float] | None] = [None] if plan.again_list else [*plan.again_spans]
    pages: PageReader[RawRow] = PageReader(
        session, filters, keeping_body(RAW_CODEC.list_page), size=plan.page_size
    )
    ids: dict[str, None] = {}
    bad: dict[str, BadRow] = {}
    for span in spans:
        window = filters
        if span is not None:
            units_per_second = units_per_second_of(span[1])
            window = filters.within(span[0] - units_per_second, span[1] + units_per_second)
        walk: Walk[RawRow] = Walk(pages, Order.FIRST_CHAT_TIME_ASC, window)
        try:
            while (entries := await walk.next()) is not None:
                for entry in entries:
                    if isinstance(entry, BadRow):
                        bad[entry.id] = entry if span is None else entry.within(span)
                    else:
                        ids[entry.id] = None
        except StuckError as stuck:
            bad[str(span)] = BadRow(str(span), stuck.error, span=span)
    return list(ids), list(bad.values())


class Gone(NamedTuple):
    """A conversation that the server does not have: 404 to a request for the conversation itself."""

    id: str


async def fetch_outstanding(
    session: Session, filters: Filters, ids: Sequence[str]
) -> AsyncGenerator[RawTranscript | Skipped | Gone, None]:
    """Fetch each of these conversations with all its chats, or the reason why it still cannot be had.

    Args:
        session: The session that sends the requests.
        filters: The filters of the export, whose variables are asked for here too.
        ids: The ids of the conversations.

    Raises:
        AlliError: What is wrong is not about one conversation.
    """
    query = filters.variables_query()
    for start in range(0, len(ids), _AT_A_TIME):
        some = ids[start : start + _AT_A_TIME]
        for each in await concurrently([_fetch_transcript(session, query, one) for one in some]):
            yield each


async def _fetch_transcript(session: Session, query: str, conversation_id: str) -> RawTranscript | Skipped | Gone:
    codec = BodyKeepingCodec()
    fetcher = ChatFetcher(session, codec)
    try:
        path = wire.conversation_path(conversation_id)
    except ConfigurationError as error:
        # The id cannot stand in a path; so nothing was sent.
        return Skipped(conversation_id, DecodeError(error.message, path="$.id"))
    request = Request("getConversation", "GET", path, query)
    try:
        try:
            row = await session.request(request, codec.conversation)
        except NotFoundError:
            return Gone(conversation_id)
        newest_first = fetcher.is_newest_first(row)
        return codec.join(row, await fetcher.chats(row, newest_first), newest_first)
    except _SINGLE_ERRORS as error:
        if error.is_outage:
            raise
        return Skipped(conversation_id, error)


async def find_gone(session: Session, ids: Sequence[str]) -> set[str]:
    """Which of these conversations the server does not have.

    Raises:
        AlliError: What is wrong is not about one conversation.
    """
    gone: set[str] = set()
    for start in range(0, len(ids), _AT_A_TIME):
        some = ids[start : start + _AT_A_TIME]
        answers = await concurrently([_is_gone(session, each) for each in some])
        gone.update(each for each, is_gone in zip(some, answers, strict=True) if is_gone)
    return gone


async def _is_gone(session: Session, conversation_id: str) -> bool:
    try:
        path = wire.conversation_path(conversation_id)
        await session.request(Request("getConversation", "GET", path, ""), RAW_CODEC.conversation)
    except NotFoundError:
        return True
    except ConfigurationError:
        return False
    except _SINGLE_ERRORS as error:
        if error.is_outage:
            raise
    return False
