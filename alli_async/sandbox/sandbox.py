"""The sandbox: an Alli backend that tests send real requests to."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from aiohttp import web

from .changes import Changes
from .checks import check_integer
from .countdown import Action, Countdown
from .data import Data
from .faults import FaultPlan, Step
from .marks import Marks
from .operations import OPERATIONS, WITHOUT_ID, Operations
from .options import Options, SandboxOptions
from .own import ChatLike, ConversationLike
from .server import UNKNOWN, Service
from .store import Store
from .thread import ServerThread
from .traffic import Received

ChangeT = TypeVar("ChangeT")

_IDLE_SECONDS = 3600.0
_SHUTDOWN_SECONDS = 0.1


class Sandbox:
    """A faithful Alli backend on a port of this machine: no account, no network, the same data every time.

    `async with` serves it in the running event loop, `with` in a thread of its own. Changes of the data stay when
    the sandbox is entered again. All methods may be called from any thread.

    Args:
        conversations: Number of conversations. Each is a pure function of the seed and its index, so a million
            start as fast as ten, and a smaller sandbox holds the first conversations of a larger one.
        crowd: Number of conversations, from the 513th on, that begin at the same instant; in steps of 64.
        seed: Seed of the data, the faults, the churn and every other random choice.
        host: Address to listen on.
        port: Port to listen on; 0 for any free one.
        latency: Seconds that every answer takes.
        cursor: What a cursor is. "offset": the number of rows before the page, so that rows are lost or repeated
            when rows move. "relay": the same as graphql-relay writes it, base64 of `arrayconnection:N`, where N is
            the 0-based index of the page's last row. "opaque": an encrypted offset with another text each time;
            any text that the sandbox did not write is refused with 400/7003. "keyset": the sort key of the last
            row. "endless": the cursor is ignored, and every page is the first one, with a new cursor each time.
        ties: Whether rows with equal sort keys, or without one, keep their order ("stable") or come in another
            order at each request ("shuffled"; not with keyset cursors).
        order: Whether `order` is "honoured" or "ignored"; then every list is in LAST_CHAT_TIME_DESC.
        bounds: Whether `…StartedAt` and `…EndAt` include their bound ("closed") or not ("open").
        filter_numbers: What time filters accept. "any": any number. "whole": only whole numbers, without a
            decimal point; others are refused with 400/7003. "seconds": any number, but it is cut down to whole
            seconds before rows are compared with it.
        nulls: Where conversations without a time stand in a list, whichever its direction.
        null_last_chat: Share, from 0 to 1, of the conversations with chats whose `lastChatTime` is null, as in
            old rows. In orders by last chat time they stand with the nulls, and no last-chat window holds them;
            their first chat time is right. A new chat gives them a last chat time.
        first_chat_fallback: Whether `createdAt` counts as the first chat time of conversations without chats:
            first-chat windows hold them, and orders by first chat time sort them by it. `lastChatTime` stays null.
        unit: Unit of all times, in requests and in answers.
        page_cap: Most rows on a list page, whatever `pageSize` asks for; None for no cap.
        ragged: Whether list pages hold a random number of rows from 1 to their size, and sometimes no row but a
            cursor.
        heavy_page: Largest `pageSize` that works; a larger one is answered 504 with a gateway's HTML page. None if
            every size works.
        embed: Number of chats, the most recent ones, that conversations carry; or "all".
        embed_order: Whether the newest embedded chat stands last ("oldest_first") or first ("newest_first").
        embed_abridged: Number of characters to which messages of embedded chats are cut, with `citations` null;
            pages of chats stay whole. None to embed whole chats.
        page_no: Whether `pageNo` of chat pages is "honoured" or "ignored"; then every page is the first one, and
            its answer says `"pageNo": 1`.
        chat_lag: Number of the newest chats that chat pages and their `totalCount` lack; lists and single
            conversations are up to date.
        chat_times: Whether the first and last chat time of a conversation "follow" the chats that remain when a
            chat is deleted, or are "kept".
        retry_after: Form of the Retry-After header on 429 and 503, or "none" for no such header.
        chat_count: Whether `chatCount` counts all chats ("total") or only the user's ("user").
        first_chat_filters: Whether `firstChatStartedAt` and `firstChatEndAt` are "honoured" or "ignored".
        first_chat_orders: Whether orders by first chat time are "honoured", or "refused" with 400/7003.
        rate_limit: Requests per second; None for no limit. Requests beyond it are answered 429.
        burst: Number of requests that may come at once after a pause; the rate limit if None.
        max_in_flight: Number of requests served at once; more are answered 429. None for no limit.
        faults: Probability of each fault by its name; `Fault` describes them.
        churn: Changes of the data after each list page.
        compress: Whether answers are gzipped for clients that accept it.

    Raises:
        ValueError: An option is wrong; the message names it and says what would be right.
    """

    def __init__(self, **options: Unpack[SandboxOptions]) -> None:
        self.options = Options(**options)
        self.api_key = "sandbox-" + hashlib.sha256(f"key:{self.options.seed}".encode()).hexdigest()[:32]
        self._lock = threading.RLock()
        self._data = Data(self.options.seed, self.options.unit, self.options.crowd)
        self._store = Store(self._data, self.options)
        self._plan = FaultPlan(self.options.faults, self.options.seed)
        self._changes = Changes(self._store, self.options)
        self._marks = Marks()
        self._page_countdown = Countdown()
        operations = Operations(self._store, self.options, self._marks, self._after_page)
        self._service = Service(operations, self.options, self._plan, self.api_key, self._lock)
        self._runner: web.ServerRunner | None = None
        self._url: str | None = None
        self._thread: ServerThread | None = None

    def __repr__(self) -> str:
        where = self._url or "closed"
        return f"<Sandbox {where} conversations={self.options.conversations} seed={self.options.seed}>"

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end.

        Raises:
            RuntimeError: The sandbox is not serving.
        """
        if self._url is None:
            raise RuntimeError("the sandbox is not serving: enter it with `with` or `async with`")
        return self._url

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise RuntimeError("the sandbox is serving already")
        self._service.open()
        server = web.Server(self._service, keepalive_timeout=_IDLE_SECONDS)
        self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, self.options.host, self.options.port, backlog=1024).start()
        except BaseException:
            await self._close()
            raise
        host, port = self._runner.addresses[0][:2]
        self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("the sandbox is serving already")
        self._thread = ServerThread(self)
        try:
            self._thread.begin()
        except BaseException:
            self._thread = None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.end()
            self._thread = None

    async def _close(self) -> None:
        runner, self._runner, self._url = self._runner, None, None
        self._service.close()
        if runner is not None:
            await runner.cleanup()

    # Faults

    def script(self, operation: str, steps: Iterable[Step], *, id: str | None = None) -> None:  # noqa: A002
        """Choose the answers of the next requests of an operation, one step for each request.

            sandbox.script("listConversations", ["429", "ok"])
            sandbox.script("getConversation", [404], id="c-1")
            sandbox.script("getConversationRunning", [{"isRunning": True}] * 3, id="c-1")

        A later script replaces an earlier one of the same operation and id. When it has ended, requests are
        answered as ever.

        Args:
            operation: An operation's name in the contract, such as `"getConversation"`; `"*"` for any request
                whose own script has ended.
            steps: Names of faults, statuses, `Fault` objects, or answers: a model or a dict, sent with status 200.
            id: The id of the conversation or of the chat that the requests must be for; None for all requests.
                A script with an id goes before one without.

        Raises:
            ValueError: There is no such operation or fault, or its requests have no id.
        """
        if operation not in OPERATIONS and operation not in {"*", UNKNOWN}:
            raise ValueError(f"operation must be one of {', '.join(OPERATIONS)} or *, not {operation!r}")
        if id is not None and operation in WITHOUT_ID:
            raise ValueError(f"id: requests of {operation} have none")
        self._plan.script(operation, steps, id)

    def override(self, conversation_id: str, fields: Mapping[str, Any] | None) -> None:
        """Replace fields of a conversation in every answer that shows it, in lists and by itself.

        Filters, orders and paths still go by the true values. A later override replaces the earlier one.

        Args:
            conversation_id: The true id of the conversation.
            fields: Values by their wire name, such as `{"createdAt": 1e300}`. A value of type bytes is put in as
                raw JSON. None removes the override.

        Raises:
            KeyError: There is no such conversation.
            ValueError: A value cannot be written as JSON.
        """
        with self._lock:
            self._marks.override(self._index(conversation_id), fields)

    def poison(self, conversation_id: str, status: int | None = 500, *, everywhere: bool = False) -> None:
        """Answer every list page that holds a conversation with an error of code 7000.

        Args:
            conversation_id: The id of the conversation.
            status: Status of the error, from 400 to 599; None heals the conversation.
            everywhere: Whether requests for the conversation itself and its chats fail too.

        Raises:
            KeyError: There is no such conversation.
            ValueError: The status is not one of an error.
        """
        if status is not None:
            check_integer("status", status, 400, 599, " or None")
        with self._lock:
            self._marks.poison(self._index(conversation_id), status, everywhere=everywhere)

    # Changes of the data

    def put(self, conversation: ConversationLike, chats: Iterable[ChatLike] | None = None) -> str:
        """Put in a conversation of one's own, in place of one with the same id.

        It is then like any other: lists, filters and orders know it, it can be updated, and its chats deleted.

            sandbox.put({"id": "c-1", "title": "Refund", "user": {"user_id": "u-1"}}, chats=["Hello?", "Hello!"])

        Args:
            conversation: A `Conversation`, or a dict with names of Python or of the wire. What is left out has
                the sandbox's default: an id of its own, no user, an empty title. `chatCount` is always the number
                of chats; `override` shows another one. Names that the contract does not know are sent as they are.
            chats: Chats, dicts, or texts, which are said by the user and the bot in turns. Chats without a time
                follow each other by a second. None for the chats that the conversation itself has.

        Returns:
            The id of the conversation.

        Raises:
            ValueError: A value cannot be right; the message names its place.
            TypeError: What should be a conversation, a chat or a list of them is something else.
        """
        with self._lock:
            return self._store.conversation_id(self._store.put(conversation, chats))

    def add_chats(self, n: int = 1, conversation_id: str | None = None) -> list[str]:
        """Add chats that are sent now, to one conversation or to random ones.

        Returns:
            The ids of the chats.

        Raises:
            KeyError: There is no such conversation.
        """
        with self._lock:
            index = None if conversation_id is None else self._index(conversation_id)
            return self._chat_ids(self._changes.add_chat(index) for _ in range(n))

    def delete_chats(self, n: int = 1, conversation_id: str | None = None, *, first: bool = False) -> list[str]:
        """Delete random chats of one conversation or of all.

        Args:
            n: Number of chats.
            conversation_id: The conversation that loses them; None to choose one at random for each chat.
            first: Whether the first chat of the conversation is deleted, not a random one.

        Returns:
            The ids of the deleted chats: fewer than n if there were no more.

        Raises:
            KeyError: There is no such conversation.
        """
        with self._lock:
            index = None if conversation_id is None else self._index(conversation_id)
            return self._chat_ids(self._changes.delete_chat(index, first=first) for _ in range(n))

    def add_conversations(self, n: int = 1) -> list[str]:
        """Add conversations that begin now with one chat.

        Returns:
            The ids of the conversations.
        """
        with self._lock:
            return self._conversation_ids(self._changes.add_conversation() for _ in range(n))

    def delete_conversations(self, n: int = 1, conversation_id: str | None = None) -> list[str]:
        """Delete one conversation, or n random ones, as retention does. Their ids are unknown from then on.

        Returns:
            The ids of the deleted conversations: fewer than n if there were no more.

        Raises:
            KeyError: There is no such conversation.
        """
        with self._lock:
            if conversation_id is not None:
                return self._conversation_ids([self._changes.delete_conversation(self._index(conversation_id))])
            return self._conversation_ids(self._changes.delete_conversation() for _ in range(n))

    def end_conversations(self, n: int = 1, conversation_id: str | None = None) -> list[str]:
        """End one conversation, or n random ones: `isEnd` becomes true.

        Returns:
            The ids of the conversations that had not ended before: fewer than n if there were no more.

        Raises:
            KeyError: There is no such conversation.
        """
        with self._lock:
            if conversation_id is not None:
                return self._conversation_ids([self._changes.end_conversation(self._index(conversation_id))])
            return self._conversation_ids(self._changes.end_conversation() for _ in range(n))

    def running(self, conversation_id: str, polls: int | None = None) -> None:
        """Mark a conversation as running.

        Args:
            conversation_id: The id of the conversation.
            polls: Number of requests that are told it is running; None for until it is stopped.

        Raises:
            KeyError: There is no such conversation.
        """
        with self._lock:
            self._store.set_running(self._index(conversation_id), polls)

    def after_pages(self, n: int, action: Action) -> None:
        """Run an action right after the n-th list page from now is made, before it is sent.

        Pages that fail are not counted. The action runs in the thread that serves, and may call the methods that
        change the data. Several actions may be scheduled.

        Args:
            n: Number of list pages, at least 1.
            action: A function without arguments.

        Raises:
            ValueError: n is below 1.
        """
        with self._lock:
            self._page_countdown.schedule(n, action)

    def after_requests(self, n: int, action: Action) -> None:
        """Run an action right after the n-th request from now is answered, before the answer is sent.

        Every request counts, refused and failing ones too. The rest is as for `after_pages`.

        Args:
            n: Number of requests, at least 1.
            action: A function without arguments.

        Raises:
            ValueError: n is below 1.
        """
        with self._lock:
            self._service.after_request.schedule(n, action)

    # The data

    def conversation_ids(self) -> list[str]:
        """The ids of all conversations, in the order in which they began."""
        with self._lock:
            return self._conversation_ids(self._store.indices())

    def chat_ids(self, conversation_id: str) -> list[str]:
        """The ids of the chats of a conversation, ascending in time.

        Raises:
            KeyError: There is no such conversation.
        """
        with self._lock:
            index = self._index(conversation_id)
            return self._chat_ids((index, one) for one in self._store.timeline(index).sequences)

    # The requests

    @property
    def requests(self) -> Counter[tuple[str, int]]:
        """Number of answers by (operation, status); the status is 0 where there was no answer."""
        with self._lock:
            return self._service.traffic.requests.copy()

    @property
    def received(self) -> deque[Received]:
        """The latest 10,000 requests."""
        return self._service.traffic.received.copy()

    @property
    def in_flight(self) -> int:
        """Number of requests that wait for their answer."""
        return self._service.traffic.in_flight

    @property
    def peak_in_flight(self) -> int:
        """Largest number of requests that waited at once, refused ones included."""
        return self._service.traffic.peak_in_flight

    def count(self, operation: str | None = None, status: int | None = None) -> int:
        """Number of requests, of one operation or with one status if these are given."""
        return sum(
            number
            for (asked, answered), number in self.requests.items()
            if operation in {None, asked} and status in {None, answered}
        )

    def reset_counters(self) -> None:
        """Set the counters to zero and forget the requests received."""
        with self._lock:
            self._service.traffic.reset()

    def _after_page(self) -> None:
        if self.options.churn is not None:
            self._changes.apply(self.options.churn)
        self._page_countdown.tick()

    def _index(self, conversation_id: str) -> int:
        index = self._store.find(conversation_id)
        if index is None:
            raise KeyError(conversation_id)
        return index

    def _conversation_ids(self, indices: Iterable[int | None]) -> list[str]:
        return [self._store.conversation_id(index) for index in _until_none(indices)]

    def _chat_ids(self, chats: Iterable[tuple[int, int] | None]) -> list[str]:
        return [self._store.chat_id(*chat) for chat in _until_none(chats)]


def _until_none(changes: Iterable[ChangeT | None]) -> Iterator[ChangeT]:
    """The changes up to the first that found nothing to change: the changes after it would find nothing either."""
    for change in changes:
        if change is None:
            return
        yield change
