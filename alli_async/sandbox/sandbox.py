"""The sandbox: an Alli backend to run real requests against."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter, deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self, Unpack

from aiohttp import web

from .data import Data
from .faults import FaultPlan, Step
from .operations import OPERATIONS, Operations
from .options import Options, SandboxOptions
from .server import UNKNOWN, Service
from .store import Store
from .traffic import Received

_IDLE_SECONDS = 3600.0
_SHUTDOWN_SECONDS = 0.1


class Sandbox:
    """A faithful Alli backend on a port of this machine: no account, no network, the same data every time.

    With `async with` it serves in the running event loop, with `with` from a thread of its own. What was
    changed stays when it is entered again. Everything may be called from any thread.

    Args:
        conversations: How many there are. Each is a pure function of the seed and its index, so a million
            cost nothing to start with, and a smaller sandbox holds the same ones as a larger one.
        crowd: How many of them, from the 513th on, began at one and the same instant; in steps of 64.
        seed: What the data, the faults and the churn are drawn from.
        host: The address to listen on.
        port: The port to listen on; 0 for any free one.
        latency: Seconds that every answer takes.
        cursor: Whether cursors are offsets, which lose and repeat rows when rows move, or say what the last
            row was ("keyset").
        bounds: Whether `…StartedAt` and `…EndAt` include their bound ("closed").
        nulls: Where conversations without chats stand, whichever the direction.
        unit: Of every time, in and out.
        embed: How many chats, the most recent ones, conversations carry: a number or "all".
        embed_order: Whether the newest of them stands last ("oldest_first") or first.
        retry_after: The form of Retry-After on 429 and 503, or "none" for no such header.
        chat_count: Whether `chatCount` counts all chats or only the user's.
        first_chat_filters: Whether `firstChatStartedAt` and `firstChatEndAt` select anything.
        first_chat_orders: Whether the orders by first chat time are served, or refused with 400/7003.
        rate_limit: Requests a second; None for no limit. What goes beyond is answered 429.
        burst: How many requests may come at once after a pause; the rate limit if None.
        max_in_flight: How many requests are served at once; what goes beyond is answered 429.
        faults: The probability of each fault by its name; `Fault` describes them.
        churn: What happens to the data after each list page.
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
        operations = Operations(self._store, self.options)
        self._service = Service(operations, self.options, self._plan, self.api_key, self._lock)
        self._runner: web.ServerRunner | None = None
        self._url: str | None = None
        self._thread: _Thread | None = None

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
        self._thread = _Thread(self)
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

    # What goes wrong

    def script(self, operation: str, steps: Iterable[Step]) -> None:
        """Say what the next requests of an operation meet, one step each; then it goes on as before.

        Args:
            operation: An operation's id in the contract, such as `"getConversation"`; `"*"` for any request
                whose own script has ended.
            steps: Names of faults, statuses, or `Fault` objects.

        Raises:
            ValueError: There is no such operation or fault.
        """
        if operation not in OPERATIONS and operation not in {"*", UNKNOWN}:
            raise ValueError(f"operation must be one of {', '.join(OPERATIONS)} or *, not {operation!r}")
        self._plan.script(operation, steps)

    # What changes

    def add_chats(self, n: int = 1, conversation_id: str | None = None) -> list[str]:
        """Let chats arrive, each now, in a conversation or in ones chosen at random.

        Returns:
            The ids of the chats.

        Raises:
            KeyError: There is no such conversation.
        """
        with self._lock:
            index = None if conversation_id is None else self._index(conversation_id)
            return self._chat_ids(self._store.add_chat(index) for _ in range(n))

    def delete_chats(self, n: int = 1, conversation_id: str | None = None) -> list[str]:
        """Delete chats chosen at random, of a conversation or of any; first and last chat times stay.

        Returns:
            The ids of the chats that were deleted, fewer than n when there were no more.

        Raises:
            KeyError: There is no such conversation.
        """
        with self._lock:
            index = None if conversation_id is None else self._index(conversation_id)
            return self._chat_ids(self._store.delete_chat(index) for _ in range(n))

    def add_conversations(self, n: int = 1) -> list[str]:
        """Let conversations begin, each now and with one chat.

        Returns:
            The ids of the conversations.
        """
        with self._lock:
            return [self._data.conversation_id(self._store.add_conversation()) for _ in range(n)]

    def running(self, conversation_id: str, polls: int | None = None) -> None:
        """Mark a conversation as running.

        Args:
            conversation_id: Which.
            polls: How many times it is said to be running; None: until it is stopped.

        Raises:
            KeyError: There is no such conversation.
        """
        with self._lock:
            self._store.set_running(self._index(conversation_id), polls)

    # What is true

    def conversation_ids(self) -> list[str]:
        """The ids of all conversations, in the order in which they began."""
        with self._lock:
            return [self._data.conversation_id(index) for index in range(self._store.total)]

    def chat_ids(self, conversation_id: str) -> list[str]:
        """The ids of the chats of a conversation, ascending in time.

        Raises:
            KeyError: There is no such conversation.
        """
        with self._lock:
            index = self._index(conversation_id)
            return [self._data.chat_id(index, one).decode() for one in self._store.timeline(index).sequences]

    # What was asked

    @property
    def requests(self) -> Counter[tuple[str, int]]:
        """How often each (operation, status) was answered; status 0 where there was no answer."""
        with self._lock:
            return self._service.traffic.requests.copy()

    @property
    def received(self) -> deque[Received]:
        """The latest 10,000 requests, as they came."""
        return self._service.traffic.received.copy()

    @property
    def in_flight(self) -> int:
        """How many requests wait for their answer."""
        return self._service.traffic.in_flight

    @property
    def peak_in_flight(self) -> int:
        """The most requests that waited at once, refused ones included."""
        return self._service.traffic.peak_in_flight

    def count(self, operation: str | None = None, status: int | None = None) -> int:
        """How many requests there were, of one operation or with one status if these are given."""
        return sum(
            number
            for (asked, answered), number in self.requests.items()
            if operation in {None, asked} and status in {None, answered}
        )

    def reset_counters(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self._service.traffic.reset()

    def _index(self, conversation_id: str) -> int:
        index = self._store.find(conversation_id)
        if index is None:
            raise KeyError(conversation_id)
        return index

    def _chat_ids(self, chats: Iterable[tuple[int, int] | None]) -> list[str]:
        return [self._data.chat_id(*chat).decode() for chat in chats if chat is not None]


class _Thread:
    """Serves a sandbox from an event loop in a thread of its own."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="alli-sandbox", daemon=True)

    def begin(self) -> None:
        """Return when the sandbox serves.

        Raises:
            OSError: It cannot listen.
        """
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def end(self) -> None:
        """Return when nothing of it is left."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with self._sandbox:
            self._ready.set()
            await self._stop.wait()
