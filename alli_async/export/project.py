"""Whose conversations a destination holds: a project is known by a few of its conversations, never by a key."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence

from .._listing.filters import Filters
from .._listing.page_reader import PageReader, good_rows
from .._listing.single_rows import StuckError
from .._listing.walks import Walk
from .._transcripts.codec import RAW_CODEC, RawRow
from .._transport.session import Session
from ..conversations import ConversationsAPI
from ..errors import BadRequestError, ConfigurationError, ExportError, NotFoundError, PermissionDeniedError
from ..models import Order
from .commit_log import RunLog
from .holdings import Holdings

# Of the ids that were noted, so many of the latest are asked for.
_MOST_ASKED = 24


def known_ids(runs: Sequence[RunLog]) -> list[str]:
    """The ids by which the project of a destination is known, the latest first."""
    return list(dict.fromkeys(each for run in reversed(runs) for each in run.plan.ids))[:_MOST_ASKED]


def project_of(ids: Sequence[str]) -> str:
    """A name for a project: a hash of the ids by which it was known first; empty where there are none."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16] if ids else ""


async def check_project(
    session: Session,
    ids: Sequence[str],
    place: object,
    held: Callable[[], Awaitable[Holdings]] | None = None,
) -> None:
    """See that the server knows one of these conversations, or lists one that is held.

    A destination is bound to what is in it, not to an address or a key, which can change.

    Args:
        session: The session that sends the requests.
        ids: Ids by which the project is known.
        place: The destination, for errors.
        held: Gives all conversations of the destination, which matter once none of the ids is known any more.

    Raises:
        ExportError: The server knows none of them.
    """
    for each in ids:
        try:
            await ConversationsAPI(session).get(each)
        except (NotFoundError, BadRequestError, PermissionDeniedError, ConfigurationError):
            continue  # the last one for an id that cannot stand in a path, as "" or ".."
        return
    conversations = await held() if held is not None else Holdings()
    if not ids and not conversations.conversations:
        return  # of a project that was empty
    if not await _lists_one_of(session, conversations):
        raise ExportError(
            f"{place} holds conversations that this server and key do not know: of another project? "
            "Export this one to a directory of its own"
        )


async def _lists_one_of(session: Session, held: Holdings) -> bool:
    """Whether either end of the list shows a conversation that is held: retention takes the noted ones in time."""
    pages: PageReader[RawRow] = PageReader(session, Filters(), RAW_CODEC.list_page)
    for order in (Order.LAST_CHAT_TIME_DESC, Order.FIRST_CHAT_TIME_ASC):
        try:
            entries = await Walk(pages, order, pages.filters).next_rows()
        except (StuckError, BadRequestError):
            continue
        if any(row.id in held for row in good_rows(entries)):
            return True
    return False
