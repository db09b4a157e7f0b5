"""ConversationsAPI: the eleven operations of the conversations API, and the streams that use them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Sequence
from datetime import date
from functools import partial
from typing import Any, Literal, TypeVar, Unpack, cast, overload

from ._aio.tasks import both
from ._for_each import ItemResults
from ._listing.filters import ConversationFilters, Filters
from ._listing.pages import (
    MAX_PAGE_SIZE,
    ChatPages,
    ConversationPages,
    check_page_size,
    decode_conversations,
    fetch_conversations,
    walk_list,
)
from ._transcripts.chats import all_chats, decode_chats, fetch_chats, walk_chats
from ._transcripts.codec import RAW_CODEC, STRUCT_CODEC, Codec, decode_conversation, is_newest_first
from ._transcripts.fetcher import ChatFetcher
from ._transcripts.stream import TranscriptStream
from ._transcripts.watching import is_running, wait_idle, watch_chats
from ._transport import bodies, wire
from ._transport.checks import checked_names, checked_seconds, checked_text, checked_texts
from ._transport.session import Session
from ._transport.wire import Request
from .config import checked_flag
from .errors import ConfigurationError
from .models import (
    UNSET,
    Chat,
    Conversation,
    ConversationPage,
    ConversationState,
    ConversationUpdate,
    DailyCounts,
    Feedback,
    FeedbackReason,
    Order,
    RawTranscript,
    Transcript,
    UnsetType,
)

__all__ = ["ConversationsAPI"]

ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")


class ConversationsAPI:
    """The conversations of a project, available as `client.conversations`.

    Every method can raise an `AlliError`: `ConfigurationError` for an invalid argument, before anything is sent;
    `TransportError` if no whole answer came; `APIError` if the server answered with an error; `DecodeError` if an
    answer does not follow the contract.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    # --- reading ------------------------------------------------------------------------------------------

    def list(
        self,
        *,
        cursor: str | None = None,
        page_size: int = MAX_PAGE_SIZE,
        order: Order | str | None = None,
        **filters: Unpack[ConversationFilters],
    ) -> ConversationPages:
        """List conversations, page by page, as the server sends them.

        Conversations can move between pages during the walk: if chats arrive while the list is read by last chat
        time (the server's default), a conversation may come twice or not at all. `transcripts` misses none.

        Args:
            cursor: The cursor at which to begin, from a page or an error; None for the first page.
            page_size: Number of conversations on a page, from 1 to 50.
            order: The order, by first or last chat time; None for the server's default, the latest chat first.
            **filters: `user_ids`, `llm_app_id`, `category_id`, `started_at`, `end_at`, `first_chat_started_at`,
                `first_chat_end_at`, `search_term`, `variables`, `active_only`, `background_running`, as
                described in `ConversationFilters`. `started_at` and `end_at` bound the time of the LAST chat, so a
                conversation that continues leaves such a window; `first_chat_…` bound the time of the first chat.

        Returns:
            An object for three uses: `async for` yields conversations, `.pages()` yields pages, and `await`
            returns the first page.

        Raises:
            PaginationError: The list does not end.
        """
        checked = Filters.checked(filters)
        check_page_size(page_size)
        if cursor is not None:
            checked_text("cursor", cursor)
        in_order = None if order is None else bodies.member("order", Order, order)

        async def fetch(at: str | None) -> ConversationPage:
            return await fetch_conversations(
                self._session, checked, decode_conversations, cursor=at, page_size=page_size, order=in_order
            )

        return ConversationPages(lambda: walk_list(fetch, cursor), lambda page: page.conversations)

    async def get(self, conversation_id: str, *, variables: Sequence[str] | None = None) -> Conversation:
        """Fetch one conversation.

        Args:
            conversation_id: The conversation's id.
            variables: The names of the variables to return with it; None for the server's choice.
        """
        query = "" if variables is None else wire.query([("variables", checked_names("variables", variables)[0])])
        return await _get(self._session, conversation_id, query)

    def list_chats(self, conversation_id: str) -> ChatPages:
        """List the chats of a conversation, oldest first. Pages after the first are fetched concurrently.

        Returns:
            An object for three uses: `async for` yields chats, `.pages()` yields pages, and `await` returns the
            first page.

        Raises:
            PaginationError: The list does not end.
        """
        wire.segment("conversation id", conversation_id)
        fetch = partial(fetch_chats, self._session, conversation_id, decode_chats)
        return ChatPages(lambda: walk_chats(fetch, conversation_id), lambda page: page.chats)

    async def transcript(self, conversation_id: str) -> Transcript:
        """Fetch a conversation with all its chats, oldest first.

        Raises:
            IncompleteError: The pages of chats did not add up, however often they were fetched.
        """
        wire.segment("conversation id", conversation_id)
        session = self._session.bounded()
        fetch = partial(fetch_chats, session, conversation_id, decode_chats)
        conversation, chats = await both(_get(session, conversation_id), all_chats(fetch, conversation_id))
        fetched = set(chats.ids)
        newest_first = bool(is_newest_first(conversation.chats))
        if any(chat.id not in fetched for chat in conversation.chats):
            # Conversation and pages were requested at the same moment: the pages may be older.
            chats = await ChatFetcher(session, STRUCT_CODEC).chats(conversation, newest_first)
        return STRUCT_CODEC.join(conversation, chats, newest_first)

    @overload
    def transcripts(
        self,
        *,
        raw: Literal[False] = False,
        concurrency: int | None = None,
        ordered: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        **filters: Unpack[ConversationFilters],
    ) -> TranscriptStream[Transcript]: ...

    @overload
    def transcripts(
        self,
        *,
        raw: Literal[True],
        concurrency: int | None = None,
        ordered: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        **filters: Unpack[ConversationFilters],
    ) -> TranscriptStream[RawTranscript]: ...

    @overload
    def transcripts(
        self,
        *,
        raw: bool,
        concurrency: int | None = None,
        ordered: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        **filters: Unpack[ConversationFilters],
    ) -> TranscriptStream[Transcript] | TranscriptStream[RawTranscript]: ...

    def transcripts(
        self,
        *,
        raw: bool = False,
        concurrency: int | None = None,
        ordered: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        **filters: Unpack[ConversationFilters],
    ) -> TranscriptStream[Transcript] | TranscriptStream[RawTranscript]:
        """Stream every conversation with every chat, fetched concurrently, in bounded memory.

        A list of more than a few pages is cut into partitions of first chat times, which many cursors read at
        once. If the server does not support this, or a filter is on the last chat's time, one cursor reads the
        list, and reads it again until no new conversation appears. A conversation that starts, gets chats, loses
        chats or leaves the list meanwhile never causes another one to be missed.

        The chats of a conversation are fetched only if the chats that come with the list are not all its chats.
        This relies on `chat_count`, which is first compared with the pages of chats of a few conversations. If
        `chat_count` proves wrong later, the incomplete transcripts are yielded again at the end, and their ids are
        in `.again`.

        Args:
            raw: Yield `RawTranscript`, with the bytes that the server sent, in place of `Transcript`.
            concurrency: Number of conversations whose chats are fetched at a time; None for the client's
                `max_concurrency`.
            ordered: Yield transcripts in the order of first chat times, for which one cursor reads the list;
                otherwise each transcript comes as soon as it is complete. Conversations that move while the list
                is read come at the end, out of order.
            on_error: `"skip"` leaves out conversations that cannot be read, and notes them in `.skipped`.
            **filters: `user_ids`, `llm_app_id`, `category_id`, `started_at`, `end_at`, `first_chat_started_at`,
                `first_chat_end_at`, `search_term`, `variables`, `active_only`, `background_running`, as
                described in `ConversationFilters`. `started_at` and `end_at` bound the time of the LAST chat, so a
                conversation that continues leaves such a window; `first_chat_…` bound the time of the first chat.

        Returns:
            An async iterator, which is also an async context manager that ends the work when it is left.
            `.stats` has the numbers of requests, conversations and chats.

        Raises:
            IncompleteError: A conversation's pages of chats did not add up, however often they were fetched.
            PaginationError: The list does not end.
        """
        checked = Filters.checked(filters)
        codec = cast("Codec[Any]", RAW_CODEC if checked_flag("raw", raw) else STRUCT_CODEC)
        return TranscriptStream(
            self._session, codec, checked, concurrency=concurrency, ordered=ordered, on_error=on_error
        )

    async def daily_counts(self, start_date: date | str, end_date: date | str) -> DailyCounts:
        """Fetch the number of active conversations on each day.

        By contract this is a GET with a JSON body, which a proxy may refuse.

        Args:
            start_date: The first day, a `date` or `YYYY-MM-DD`.
            end_date: The last day.

        Raises:
            APIError: With status 200, when the server reports the failure inside its answer.
        """
        first, last = bodies.day("start_date", start_date), bodies.day("end_date", end_date)
        if first > last:
            raise ConfigurationError(f"start_date: lies after end_date ({first} > {last})")
        return await self._session.request(bodies.daily_request(first, last), bodies.decode_daily)

    # --- writing ------------------------------------------------------------------------------------------

    async def update(
        self,
        conversation_id: str,
        *,
        state: ConversationState | str | UnsetType | None = UNSET,
        assignee: str | UnsetType | None = UNSET,
        category_ids: Sequence[str] | UnsetType | None = UNSET,
        title: str | UnsetType | None = UNSET,
    ) -> Conversation:
        """Change a conversation. None is sent as null; an argument that is UNSET is not sent.

        Args:
            conversation_id: The conversation's id.
            state: The new state.
            assignee: The new assignee; None for no assignee. The contract does not say what names an agent.
            category_ids: The ids of the new categories, in place of the present ones.
            title: The new title.

        Raises:
            ConfigurationError: No field is set, or a value is invalid.
        """
        update = bodies.checked_update(
            ConversationUpdate(
                state=state,  # type: ignore[arg-type]
                assignee=assignee,
                category_ids=category_ids,  # type: ignore[arg-type]
                title=title,
            )
        )
        path = wire.conversation_path(conversation_id)
        body = wire.encode("update", update)
        return await self._session.request(
            Request("updateConversation", "PATCH", path, body=body), decode_conversation
        )

    async def bulk_update(
        self,
        update: ConversationUpdate,
        *,
        conversation_ids: Sequence[str] | None = None,
        user_ids: Sequence[str] | None = None,
        llm_app_ids: Sequence[str] | None = None,
        category_ids: Sequence[str] | None = None,
        all_conversations: bool = False,
    ) -> None:
        """Change every conversation that the filters select.

        Args:
            update: What to change.
            conversation_ids: The ids of the conversations to change.
            user_ids: Change the conversations of these users.
            llm_app_ids: Change the conversations of these apps.
            category_ids: Change the conversations in these categories.
            all_conversations: True to change every conversation of the project; required if no filter is given.

        Raises:
            ConfigurationError: No filter (or an empty list) and not `all_conversations`; or both.
        """
        chosen: dict[str, Sequence[str] | None] = {
            "conversation_ids": conversation_ids,
            "user_ids": user_ids,
            "llm_app_ids": llm_app_ids,
            "category_ids": category_ids,
        }
        given = {name: checked_texts(name, ids) for name, ids in chosen.items() if ids is not None}
        if bool(given) is checked_flag("all_conversations", all_conversations):
            raise ConfigurationError(
                "all_conversations: does not go with a filter"
                if given
                else "no filter: give conversation_ids, user_ids, llm_app_ids or category_ids, "
                "or all_conversations=True to change every conversation of the project"
            )
        if not isinstance(update, ConversationUpdate):
            raise ConfigurationError(f"update: expected a ConversationUpdate, got {type(update).__name__}")
        body = wire.encode("update", bodies.BulkUpdate(bodies.checked_update(update), **given))
        request = Request("bulkUpdateConversations", "POST", f"{wire.CONVERSATIONS}/bulk_update", body=body)
        await self._session.request(request, wire.nothing)

    async def set_title(self, conversation_id: str, title: str) -> Conversation:
        """Set the title of a conversation, and return the conversation."""
        path = wire.conversation_path(conversation_id, "title")
        if not isinstance(title, str):
            raise ConfigurationError(f"title: expected a text, got {title!a}")
        request = Request("updateConversationTitle", "PUT", path, body=wire.encode("title", bodies.Title(title)))
        return await self._session.request(request, decode_conversation)

    async def delete_chat(self, conversation_id: str, chat_id: str) -> None:
        """Delete a chat. A 404 after an attempt whose outcome is unknown counts as success of that attempt."""
        path = wire.conversation_path(conversation_id, "chats", wire.segment("chat id", chat_id))
        await self._session.request(Request("deleteConversationChat", "DELETE", path), wire.nothing)

    async def send_feedback(
        self,
        conversation_id: str,
        chat_id: str,
        *,
        rating: bool | UnsetType | None = UNSET,
        selection: Sequence[FeedbackReason | str] | UnsetType | None = UNSET,
        suggested_answer: str | UnsetType | None = UNSET,
    ) -> Feedback:
        """Rate an answer. None is sent as null; an argument that is UNSET is not sent.

        Args:
            conversation_id: The conversation's id.
            chat_id: The id of the chat with the answer.
            rating: True for good, False for bad, None for no rating.
            selection: The reasons of the rating.
            suggested_answer: The text that the answer should have had.

        Raises:
            ConfigurationError: No field is set, or a value is invalid.
        """
        feedback = bodies.checked_feedback(rating, selection, suggested_answer)
        path = wire.conversation_path(conversation_id, "chats", wire.segment("chat id", chat_id), "feedback")
        body = wire.encode("feedback", feedback)
        return await self._session.request(
            Request("postChatFeedback", "POST", path, body=body), bodies.decode_feedback
        )

    def for_each(
        self,
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        call: Callable[[ItemT], Awaitable[ValueT]],
        *,
        concurrency: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> ItemResults[ItemT, ValueT]:
        """Make one call for each of many items, concurrently, in bounded memory, within the rate limit.

        Example: `for_each(ids, alli.conversations.get)`, or a function of your own that sets a title, rates or
        deletes. Calls start, and results are yielded, in the order of the items. After an error no further call
        starts, and the results of all calls that succeeded are yielded before the error is raised: every item
        without a result is left to do. Leaving the results early cancels the calls in flight, whose writes may
        have happened: at most the calls for about `2 * concurrency` items after the last result.

        Args:
            items: The items, such as ids; also an async iterable, such as `list()`.
            call: An async function of one item.
            concurrency: Number of calls in flight; None for the client's `max_concurrency`.
            on_error: `"raise"` ends the work at the first error. `"skip"` continues after a call that fails with
                an `AlliError`, and the item's result has the `error`; an outage and a closed client still raise.

        Returns:
            An async iterator of `ItemResult(item, value, error)`, and an async context manager that ends the work
            when it is left.

        Raises:
            ConfigurationError: An argument is invalid.
        """
        return ItemResults(
            self._session.lifetime,
            items,
            call,
            concurrency=self._session.config.max_concurrency if concurrency is None else concurrency,
            on_error=on_error,
        )

    # --- answers that are being generated -----------------------------------------------------------------

    async def is_running(self, conversation_id: str) -> bool:
        """Whether an answer is being generated now."""
        return await is_running(self._session, conversation_id)

    async def wait_until_idle(
        self, conversation_id: str, *, timeout: float | None = None, poll_interval: float = 1.0
    ) -> None:
        """Wait until no answer is being generated.

        Args:
            conversation_id: The conversation's id.
            timeout: Longest wait in seconds, which replaces the client's `deadline`; None for the `deadline`.
            poll_interval: Seconds between two requests.

        Raises:
            AlliTimeoutError: The conversation is still running.
        """
        checked_seconds("poll_interval", poll_interval)
        session = self._session.bounded(None if timeout is None else checked_seconds("timeout", timeout))
        await wait_idle(session, conversation_id, poll_interval)

    def watch(
        self,
        conversation_id: str,
        *,
        poll_interval: float = 1.0,
        timeout: float | None = None,
        history: bool = False,
    ) -> AsyncGenerator[Chat, None]:
        """Stream new chats as they appear, in order and each once, until no answer is being generated.

        A chat is yielded once two polls have shown it with the same content, or once the conversation is idle, so
        that an answer comes when it is finished.

        Args:
            conversation_id: The conversation's id.
            poll_interval: Seconds between two polls.
            timeout: Longest time to watch in seconds, which replaces the client's `deadline`; None for the
                `deadline`.
            history: Whether to begin with the chats that exist already.

        Returns:
            An async iterator of chats.

        Raises:
            AlliTimeoutError: The conversation is still running.
        """
        wire.segment("conversation id", conversation_id)
        checked_flag("history", history)
        checked_interval = checked_seconds("poll_interval", poll_interval)
        within = None if timeout is None else checked_seconds("timeout", timeout)
        return watch_chats(
            lambda: self._session.bounded(within), conversation_id, checked_interval, history=history
        )

    async def stop(self, conversation_id: str) -> None:
        """Stop the answer that is being generated."""
        path = wire.conversation_path(conversation_id, "stop")
        await self._session.request(Request("stopConversation", "POST", path), wire.nothing)


def _get(session: Session, conversation_id: str, query: str = "") -> Coroutine[Any, Any, Conversation]:
    path = wire.conversation_path(conversation_id)
    return session.request(Request("getConversation", "GET", path, query), decode_conversation)
