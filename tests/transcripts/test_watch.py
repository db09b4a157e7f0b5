"""watch() and wait_until_idle(): what is given of a conversation that is being answered, and when it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alli_async import AlliClient, AlliTimeoutError, ConfigurationError, ConversationsAPI
from tests.conftest import ClientFactory
from tests.support import Exchange, ScriptedServer, answer, chat
from tests.support.replies import split
from tests.support.servers import OK


class Running(ScriptedServer):
    """A conversation that is answered step by step: each question whether it is running brings the next step.

    Args:
        steps: The chats of each step; the last one is the one at which it is idle.
        before: The chats before the first question.
        per_page: Chats on a page.
    """

    def __init__(self, before: list[dict[str, Any]], *steps: list[dict[str, Any]], per_page: int = 100) -> None:
        super().__init__(self._reply)
        self.chats = before
        self.steps = list(steps)
        self.per_page = per_page
        self.pages: list[int] = []

    async def _reply(self, exchange: Exchange) -> None:
        path, query = split(exchange.request)
        if path.endswith("/running"):
            if self.steps:
                self.chats = self.steps.pop(0)
            await exchange.send(answer(200, {"isRunning": bool(self.steps)}))
            return
        number = int(query["pageNo"])
        self.pages.append(number)
        chats = self.chats[(number - 1) * self.per_page : number * self.per_page]
        await exchange.send(answer(200, {"chats": chats, "totalCount": len(self.chats), "pageNo": number}))


def chats(*numbers: int, **last: Any) -> list[dict[str, Any]]:
    """Chats with these numbers; the last one with these changes."""
    made = [chat(number) for number in numbers]
    return [*made[:-1], {**made[-1], **last}]


async def watched(client: AlliClient, **options: Any) -> list[tuple[str, str]]:
    async with asyncio.timeout(60):
        found = client.conversations.watch("a", poll_interval=0.001, **options)
        return [(each.id, each.message) async for each in found]


def plain(*numbers: int) -> list[tuple[str, str]]:
    return [(f"chat-{number}", f"message {number}") for number in numbers]


async def test_new_chats_are_given_once_in_order_when_they_are_finished(make_client: ClientFactory) -> None:
    async with Running(
        chats(1, 2),
        chats(1, 2, 3, message="th"),
        chats(1, 2, 3, message="three"),
        chats(1, 2, 3, 4),
        chats(1, 2, 3, 4),
        chats(1, 2, 3, 4, 5, message="five"),
        chats(1, 2, 3, 4, 5),
    ) as server:
        assert await watched(make_client(server)) == plain(3, 4, 5)


async def test_a_finished_chat_waits_for_one_before_it(make_client: ClientFactory) -> None:
    growing = [chats(1, 2, message="x" * n) + chats(3) for n in range(5)]
    async with Running(chats(1), *growing, chats(1, 2) + chats(3)) as server:
        assert await watched(make_client(server)) == plain(2, 3)


async def test_an_answer_is_given_before_the_conversation_is_idle(make_client: ClientFactory) -> None:
    steps = [chats(1, 2)] * 50
    async with Running(chats(1), *steps) as server:
        async for each in make_client(server).conversations.watch("a", poll_interval=0.001):
            assert each.id == "chat-2"
            break
        assert len(server.steps) > 40


async def test_history_begins_with_what_is_there(make_client: ClientFactory) -> None:
    async with Running(chats(1, 2), chats(1, 2), chats(1, 2, 3)) as server:
        assert await watched(make_client(server), history=True) == plain(1, 2, 3)


async def test_an_idle_conversation_is_read_once_more_and_ends(make_client: ClientFactory) -> None:
    async with Running(chats(1, 2), chats(1, 2, 3)) as server:
        assert await watched(make_client(server)) == plain(3)
    async with Running(chats(1, 2)) as server:
        assert await watched(make_client(server)) == []


async def test_an_answer_that_was_being_written_at_the_start_is_given_when_it_is_finished(
    make_client: ClientFactory,
) -> None:
    async with Running(chats(1, 2, message="tw"), chats(1, 2, message="two"), chats(1, 2)) as server:
        assert await watched(make_client(server)) == plain(2)


async def test_a_chat_that_is_deleted_meanwhile_hides_no_other(make_client: ClientFactory) -> None:
    async with Running(
        chats(*range(1, 26)), chats(*range(2, 27)), chats(*range(3, 28)), chats(*range(3, 29)), per_page=10
    ) as server:
        assert await watched(make_client(server)) == plain(26, 27, 28)


async def test_only_the_end_of_a_long_conversation_is_read_again(make_client: ClientFactory) -> None:
    grown = [chats(*range(1, 96 + n)) for n in range(30)]
    async with Running(chats(*range(1, 95)), *grown, per_page=10) as server:
        assert await watched(make_client(server)) == plain(*range(95, 125))
    # All ten pages at the start and at the end, and two at most for each poll.
    assert len(server.pages) <= 10 + 13 + 30 * 4


async def test_a_timeout_ends_it_with_an_error_and_replaces_the_deadline(make_client: ClientFactory) -> None:
    for deadline, timeout in ((0.3, None), (0.01, 0.3)):
        async with Running(chats(1), *[chats(1, 2)] * 100_000) as server:
            found = []
            with pytest.raises(AlliTimeoutError):
                async with asyncio.timeout(30):
                    client = make_client(server, deadline=deadline)
                    async for one in client.conversations.watch("a", poll_interval=0.001, timeout=timeout):
                        found.append(one.id)
            assert found in (["chat-2"], [])


@pytest.mark.parametrize("value", [-1, "1", None, float("nan"), True])
async def test_what_is_no_number_of_seconds_is_refused_at_once(make_client: ClientFactory, value: Any) -> None:
    async with ScriptedServer(OK) as server:
        api: ConversationsAPI = make_client(server).conversations
        with pytest.raises(ConfigurationError, match=r"^poll_interval: "):
            api.watch("a", poll_interval=value)
        with pytest.raises(ConfigurationError, match=r"^poll_interval: "):
            await api.wait_until_idle("a", poll_interval=value)
        if value is not None:
            with pytest.raises(ConfigurationError, match=r"^timeout: "):
                api.watch("a", timeout=value)
        with pytest.raises(ConfigurationError, match=r"^conversation id: "):
            api.watch("")
        assert server.connections == 0
