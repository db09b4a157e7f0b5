"""Checks which project a destination belongs to, by its conversations and never by a key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .._aio.tasks import concurrently
from .._aio.threads import in_thread
from .._listing.filters import Filters
from .._listing.page_reader import PageReader
from .._listing.pages import units_per_second_in
from .._listing.survey import LONG_AGO, is_empty
from .._listing.walks import first_rows
from .._transcripts.codec import RAW_CODEC, RawRow
from .._transport.session import Session
from ..conversations import ConversationsAPI
from ..errors import BadRequestError, ConfigurationError, ExportError, NotFoundError, PermissionDeniedError
from ..models import Order
from .commit_log import RunLog
from .destination import Destination

# Most ids to ask for among the ids that the runs have noted, the latest first.
_MOST_NOTED = 24
# Number of conversations of the destination to ask for when the server knows none of the noted ids: enough to find
# one where one in ten is still there (1 - 0.9 ** 64 = 0.999).
_SAMPLED = 64
_AT_A_TIME = 8
# Number of ids by which the key of another process is checked.
_PROOFS = 4


def project_of(ids: Sequence[str]) -> str:
    """A name for a project: a hash of the ids by which it was known first; empty where there are none."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16] if ids else ""


async def check_project(
    session: Session, destination: Destination, filters: Filters, *, same_project: bool = False
) -> list[str]:
    """Check that a destination belongs to the project of this server and key.

    A destination is identified by some of its conversations, not by an address or a key, which can change. One
    conversation that both have is enough. The cheapest places are searched first: the ids noted by each run, then
    both ends of the server's list, then all conversations of the destination.

    Args:
        session: The session that sends the requests.
        destination: The destination, whose log has been read.
        filters: Filters of the export's list.
        same_project: Whether the user says so, where no conversation proves it.

    Returns:
        Ids of which the server knows at least one, by which other processes can be checked; none where its list
        is empty.

    Raises:
        ExportError: The server knows no conversation of the destination.
    """
    noted = _noted_ids(destination.runs)
    for place, each in enumerate(noted):
        if await _is_known(session, each):
            return noted[place : place + _PROOFS]
    holdings = await in_thread(destination.all_holdings)
    listed = await _ids_at_ends(session, filters)
    if not holdings.conversations:
        # The project was empty, or the first run was stopped before it wrote anything: nothing can be mixed.
        return listed[:_PROOFS]
    if found := [each for each in listed if each in holdings]:
        return found[:_PROOFS]
    sampled = await in_thread(destination.sample_ids, _SAMPLED)
    if found := await _known_among(session, sampled):
        return found[:_PROOFS]
    if same_project:
        return listed[:_PROOFS]
    raise ExportError(
        f"{destination.store} holds conversations, and this server and key know none of the "
        f"{len({*noted, *sampled}):,} that were asked for: of another project? Export this one to a directory of "
        "its own; or if it is the same project, whose conversations were deleted meanwhile, say so once by "
        "same_project"
    )


async def check_knows(session: Session, ids: Sequence[str], place: object) -> None:
    """Check that this process has a key of the project that another process exports.

    Args:
        session: The session that sends the requests.
        ids: Ids of conversations, at least one of which the project has; empty where nothing can be checked.
        place: The destination, for errors.

    Raises:
        ExportError: The server knows none of them.
    """
    for each in ids:
        if await _is_known(session, each):
            return
    if ids:
        raise ExportError(f"{place} is of another project than this server and key")


def _noted_ids(runs: Sequence[RunLog]) -> list[str]:
    """The ids by which the project of a destination is known, the latest first."""
    return list(dict.fromkeys(each for run in reversed(runs) for each in run.plan.ids))[:_MOST_NOTED]


async def _is_known(session: Session, conversation_id: str) -> bool:
    try:
        await ConversationsAPI(session).get(conversation_id)
    except (NotFoundError, BadRequestError, PermissionDeniedError, ConfigurationError):
        return False  # the last one for an id that cannot stand in a path, as "" or ".."
    return True


async def _known_among(session: Session, ids: Sequence[str]) -> list[str]:
    """Some of these ids that the server knows; none where it knows none."""
    for start in range(0, len(ids), _AT_A_TIME):
        some = ids[start : start + _AT_A_TIME]
        answers = await concurrently([_is_known(session, each) for each in some])
        if any(answers):
            return [each for each, is_known in zip(some, answers, strict=True) if is_known]
    return []


async def _ids_at_ends(session: Session, filters: Filters) -> list[str]:
    """The ids at both ends of the server's list.

    Retention takes the conversations that were noted in time. What it left is older than what came since, so the
    list by first chats begins with it.
    """
    pages: PageReader[RawRow] = PageReader(session, filters.without_last_chat(), RAW_CODEC.list_page)
    found: dict[str, None] = {}
    for order in (Order.LAST_CHAT_TIME_DESC, Order.FIRST_CHAT_TIME_ASC):
        rows = await first_rows(pages, order, pages.filters)
        units_per_second = units_per_second_in(rows)
        if rows and is_empty(rows[0]) and units_per_second is not None:
            # Conversations without chats stand first, and may all be new; any bound leaves them out.
            bounded = pages.filters.within(LONG_AGO * units_per_second, None)
            rows += await first_rows(pages, order, bounded)
        found.update(dict.fromkeys(row.id for row in rows))
    return list(found)
