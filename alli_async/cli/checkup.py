"""What the doctor looks at: the way to the server, the key, and how the server answers requests for lists."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from .._client_session import session_of
from .._listing.filters import Filters
from .._listing.page_reader import PageReader
from .._listing.survey import FAR_AHEAD, LONG_AGO, ServerProfile, survey_list
from .._transcripts.codec import STRUCT_CODEC
from .._transport.routes import Proxy
from ..client import AlliClient
from ..config import BASE_URLS
from ..errors import AlliError, APIError, AuthenticationError, NotFoundError, TransportError
from ..models import Conversation, ConversationPage, Order

# Requests that a checkup sends at most.
MAX_REQUESTS = 30
# Seconds by which a clock may be wrong before times that are typed select other conversations than were meant.
_CLOCK_SECONDS = 60.0
# Days before its end from which on a certificate is told of.
_CERTIFICATE_DAYS = 14
_PROJECTS = "/webapi/v2/projects"
_BOTH_WAYS = (Order.FIRST_CHAT_TIME_ASC, Order.FIRST_CHAT_TIME_DESC)
_KEPT = {True: "kept", False: "ignored", None: "not known: there are too few conversations"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        key: Its name in JSON.
        name: Its name for people.
        value: What was found, for JSON.
        text: What was found, for people.
        note: What it means: what this package does about it, or what the user should do.
        must_mend: Whether the user must do something about it.
    """

    key: str
    name: str
    value: Any
    text: str
    note: str = ""
    must_mend: bool = False


@dataclass(slots=True)
class Checkup:
    """A checkup under way.

    Args:
        client: The client whose server is looked at. It must send its requests through `count`.
        key_source: Where the key came from.

    Attributes:
        findings: What was found so far.
        requests: The number of requests that were sent.
        headers: The headers of the last answer.
    """

    key_source: str
    findings: list[Finding] = field(default_factory=list)
    requests: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    async def count(self, request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        """A middleware that counts requests, and sends no more than a checkup may."""
        if self.requests >= MAX_REQUESTS:
            raise AlliError(f"the checkup stopped after {MAX_REQUESTS} requests")
        self.requests += 1
        response = await call_next(request)
        self.headers = response.headers
        return response

    def found(
        self, key: str, name: str, value: Any, text: str, note: str = "", *, must_mend: bool = False
    ) -> None:
        """Note something."""
        self.findings.append(Finding(key, name, value, text, note, must_mend))

    async def run(self, client: AlliClient, proxy: str | None, context: ssl.SSLContext | None) -> None:
        """Look at everything, as far as it can be reached."""
        url = session_of(client).config.base_url
        self.found("server", "server", url, url)
        self._note_proxy(proxy)
        if url.startswith("https:") and proxy is None:
            await self._check_tls(url, context)
        if not await self._check_key(client):
            return
        self._check_clock()
        try:
            await self._check_lists(client)
        except AlliError as error:
            text = f"cannot be read: {error.message}"
            self.found("lists", "lists", None, text, "see the message", must_mend=True)
        self._note_limits(client)

    # --- the way to the server ----------------------------------------------------------------------------

    def _note_proxy(self, proxy: str | None) -> None:
        shown = None if proxy is None else str(Proxy.parse("proxy", proxy).url)
        self.found("proxy", "proxy", shown, shown or "none")

    async def _check_tls(self, url: str, context: ssl.SSLContext | None) -> None:
        from yarl import URL

        target = URL(url)
        try:
            async with asyncio.timeout(10):
                _, writer = await asyncio.open_connection(
                    target.host, target.port, ssl=context or ssl.create_default_context()
                )
        except (OSError, TimeoutError):
            return  # the request for the key tells why, in the words of the package
        try:
            session = writer.get_extra_info("ssl_object")
            ends = ssl.cert_time_to_seconds(session.getpeercert()["notAfter"])
        finally:
            writer.close()
        days = (ends - time.time()) / 86_400
        value = {"version": session.version(), "days_left": round(days, 1)}
        note = "" if days > _CERTIFICATE_DAYS else "the certificate ends soon; the server's owner must renew it"
        self.found("tls", "TLS", value, f"{session.version()}, certificate valid for {days:.0f} days", note)

    # --- the key ------------------------------------------------------------------------------------------

    async def _check_key(self, client: AlliClient) -> bool:
        """Whether the server can be reached and takes the key."""
        try:
            await self._ask(client)
        except TransportError as error:
            self.found("reachable", "connection", False, _kind(error), _way_advice(error), must_mend=True)
            return False
        except AuthenticationError as error:
            self.found("reachable", "connection", True, "the server answers")
            await self._note_refused_key(client, error)
            return False
        except AlliError as error:
            self.found("reachable", "connection", True, "the server answers")
            advice = "check --base-url: this does not answer like an Alli server"
            self.found("key_valid", "key", None, f"not known: {error.message}", advice, must_mend=True)
            return False
        self.found("reachable", "connection", True, "the server answers")
        self.found("key_valid", "key", True, f"valid ({self.key_source})")
        return True

    async def _ask(self, client: AlliClient) -> None:
        """Ask for what every valid key may read; servers of one's own may not have it, then for a list."""
        try:
            await client.request("GET", _PROJECTS)
        except NotFoundError:
            await client.conversations.list(page_size=1)

    async def _note_refused_key(self, client: AlliClient, error: APIError) -> None:
        """Say that the key is refused, and whether it is one of the other region."""
        advice = f"check the key of {self.key_source}"
        other = next((name for name, url in BASE_URLS.items() if url != session_of(client).config.base_url), None)
        if other is not None and session_of(client).config.base_url in BASE_URLS.values():
            try:
                await client.with_options(region=other, base_url=None).request("GET", _PROJECTS)
            except AlliError:
                pass
            else:
                advice = f"it is a key of the region {other}: give --region {other}, or set ALLI_REGION={other}"
        self.found("key_valid", "key", False, f"refused: {error.message}", advice, must_mend=True)

    def _check_clock(self) -> None:
        try:
            server_time = parsedate_to_datetime(self.headers["Date"]).timestamp()
        except (KeyError, ValueError, TypeError):
            self.found("clock_offset", "clock", None, "the server does not tell its time")
            return
        offset = time.time() - server_time
        is_wrong = abs(offset) > _CLOCK_SECONDS
        note = "set the clock of this machine: now, today and 7d mean other times for it" if is_wrong else ""
        text = f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} the server's"
        self.found(
            "clock_offset", "clock", round(offset, 1), text if is_wrong else "right", note, must_mend=is_wrong
        )

    # --- the lists ----------------------------------------------------------------------------------------

    async def _check_lists(self, client: AlliClient) -> None:
        page = await client.conversations.list()
        pages: PageReader[Conversation] = PageReader(session_of(client), Filters(), STRUCT_CODEC.list_page)
        profile = (await survey_list(pages)).profile
        self._note_profile(profile, page)
        await self._check_order(client, profile, page)
        await self._check_windows(client, profile, page)
        await self._check_bounds(client, page)
        self._note_page_cap(page)
        await self._check_embedded(client, page)

    def _note_profile(self, profile: ServerProfile, page: ConversationPage) -> None:
        unit = {None: None, 1.0: "seconds", 1000.0: "milliseconds"}[profile.units_per_second]
        self.found("time_unit", "unit of time", unit, unit or "not known", "times that are typed are sent in it")
        if page.cursor is None:
            self.found("cursor", "cursors", None, "not known: the list is one page")
            return
        notes = {
            "offset": "they count rows: each page is checked to follow the one before",
            "keyset": "they name a row: pages are read one after the other, since rows cannot shift them",
            "opaque": "lists are cut into spans of a page each, or read until two passes agree",
        }
        self.found("cursor", "cursors", profile.cursor, profile.cursor, notes[profile.cursor])

    async def _check_order(self, client: AlliClient, profile: ServerProfile, page: ConversationPage) -> None:
        """Find out whether the order by first chat is kept; of a short list the survey does not ask."""
        is_kept: bool | None = profile.order_kept
        if page.cursor is None:
            ends = [(await client.conversations.list(order=order)).conversations for order in _BOTH_WAYS]
            is_kept = None if len(ends[0]) < 2 else [row.id for row in ends[0]] != [row.id for row in ends[1]]
        note = "lists are read in the order of the last chats, until nothing new comes" if is_kept is False else ""
        self.found("order_kept", "order", is_kept, _KEPT[is_kept], note)

    async def _check_windows(self, client: AlliClient, profile: ServerProfile, page: ConversationPage) -> None:
        """Find out whether filters on first chat times are kept: before and after all times there is nothing."""
        is_kept: bool | None = None
        units = profile.units_per_second
        if page.conversations and units is not None:
            before = await client.conversations.list(first_chat_end_at=LONG_AGO * units, page_size=1)
            after = await client.conversations.list(first_chat_started_at=FAR_AHEAD * units, page_size=1)
            is_kept = not before.conversations and not after.conversations
        notes = {
            True: "long lists are cut into spans, many of which are read at once",
            False: "lists are read from end to end",
            None: "",
        }
        self.found("windows_kept", "time windows", is_kept, _KEPT[is_kept], notes[is_kept])

    async def _check_bounds(self, client: AlliClient, page: ConversationPage) -> None:
        """Find out whether a time that is equal to a bound is selected."""
        row = next((each for each in page.conversations if each.last_chat_time is not None), None)
        if row is None or row.last_chat_time is None:
            self.found("bounds", "bounds of time", None, "not known: no conversation has a time")
            return
        at = row.last_chat_time
        found = await client.conversations.list(started_at=at, end_at=at, page_size=10)
        is_included = any(each.id == row.id for each in found.conversations)
        text = "included" if is_included else "left out, or cut to whole seconds"
        self.found(
            "bounds", "bounds of time", "included" if is_included else "excluded", text, "spans overlap by 1 s"
        )

    def _note_page_cap(self, page: ConversationPage) -> None:
        rows = len(page.conversations)
        if page.cursor is None:
            self.found("page_cap", "page size", None, f"not known: the list is one page of {rows}")
        elif rows < 50:
            self.found(
                "page_cap", "page size", rows, f"{rows}, though 50 were asked for", "more requests are needed"
            )
        else:
            self.found("page_cap", "page size", rows, "50 conversations, as asked for")

    async def _check_embedded(self, client: AlliClient, page: ConversationPage) -> None:
        """Find out how many chats come with a conversation, and whether they are the whole ones."""
        most = max((len(each.chats) for each in page.conversations), default=0)
        row = next(
            (each for each in page.conversations if each.chats and each.chat_count == len(each.chats)), None
        )
        if row is None:
            self.found(
                "embedded_chats", "embedded chats", most, f"up to {most}", "chats are fetched by themselves"
            )
            return
        fetched = [chat async for chat in client.conversations.list_chats(row.id)]
        is_same = sorted(map(_content, fetched)) == sorted(map(_content, row.chats))
        text = f"up to {most}, {'the same as' if is_same else 'not the same as'} chats fetched by themselves"
        note = "used where they are all chats" if is_same else "not used: all chats are fetched by themselves"
        self.found("embedded_chats", "embedded chats", most, text, note)
        self.found("embedded_chats_whole", "", is_same, "")

    def _note_limits(self, client: AlliClient) -> None:
        limits = client.limits
        names = ("ratelimit", "x-ratelimit", "retry-after", "x-rate-limit")
        seen = {name: value for name, value in self.headers.items() if name.lower().startswith(names)}
        rate = None if limits.rate == float("inf") else limits.rate
        value = {"headers": seen, "rate": rate, "refused": limits.refused, "max_in_flight": limits.max_in_flight}
        texts = [f"{name}: {value}" for name, value in seen.items()]
        if limits.refused:
            texts.append(f"{limits.refused} requests were refused")
        note = "the pace follows refusals and these headers" if texts else "the pace is found by refusals"
        self.found("limits", "limits", value, ", ".join(texts) or "none seen", note)


def _content(chat: Any) -> bytes:
    return msgspec.json.encode(chat)


def _kind(error: AlliError) -> str:
    return f"{type(error).__name__}: {error.message}"


def _way_advice(error: AlliError) -> str:
    from .failures import advice_for

    return advice_for(error).removesuffix("; see alli-async doctor")


def key_source(api_key_file: Any) -> str:
    """Where the key comes from, for people."""
    if api_key_file is not None and not os.environ.get("ALLI_API_KEY"):
        return f"the file {api_key_file}"
    names = ("ALLI_API_KEY", "ALLI_TOKEN")
    return next((name for name in names if os.environ.get(name)), "the prompt")
