"""Windows: how a span is cut, and that walking the pieces finds every conversation once."""

from __future__ import annotations

import asyncio
import base64
import bisect
import itertools
import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alli_async import BadRequestError, Order, Response
from alli_async._bulk import windowed
from alli_async._bulk.ends import near_the_end
from alli_async._bulk.offsets import cursor_at
from alli_async._bulk.shards import listing_of
from alli_async._bulk.windows import Plan, Window
from alli_async._transport.filters import Filters
from alli_async.sandbox import Churn, Sandbox
from tests.conftest import ClientFactory
from tests.support import Exchange, ScriptedServer, answer, conversation
from tests.test_pages import split

# --- the plan, without a server ---------------------------------------------------------------------------


@dataclass
class Simulation:
    """Walkers over rows that are only numbers, one page at a time, in any interleaving."""

    times: list[float]
    plan: Plan
    closed: bool
    page: int = 10
    requests: int = 0
    found: list[int] = field(default_factory=list)

    def view(self, window: Window, end: float | None) -> range:
        left, right = (bisect.bisect_left, bisect.bisect_right)
        if not self.closed:
            left, right = right, left
        low = 0 if window.start is None else left(self.times, window.start)
        return range(low, len(self.times) if end is None else max(low, right(self.times, end)))

    def step(self, window: Window, offset: int, misled: float) -> int | None:
        """One page; gives the next offset, or None at the end."""
        rows = self.view(window, window.end)[offset : offset + self.page]
        self.requests += 1
        fresh = window.family.fresh(map(str, rows))
        self.found += [row for row in rows if str(row) in fresh]
        position = self.times[rows[-1]] + misled if rows else window.position
        self.plan.walked(window, len(rows), position, narrowed=True)
        return offset + self.page if offset + self.page < len(self.view(window, window.end)) else None

    def run(self, walkers: int, choose: random.Random, misled: float) -> None:
        at: dict[Window, int] = {}
        self.plan.may_cut = True
        while True:
            while len(at) < walkers and (window := self.plan.take()) is not None:
                at[window] = 0
            if not at:
                return
            window = choose.choice(list(at))
            offset = self.step(window, at[window], misled)
            if offset is None:
                del at[window]
                self.plan.finish(window)
            else:
                at[window] = offset


spans = st.lists(
    st.tuples(st.integers(0, 2_000), st.integers(1, 60), st.sampled_from([0, 0, 1, 7])), min_size=1, max_size=12
).map(
    lambda bursts: sorted(float(start + number * step) for start, count, step in bursts for number in range(count))
)


@settings(deadline=None, max_examples=300)
@given(
    spans, st.integers(1, 20), st.booleans(), st.integers(), st.sampled_from([0.0, -500.0, 500.0, 1e9]),
    st.floats(0, 2), st.sampled_from([0.5, 1.0, 30.0]), st.floats(0.2, 1.5),
)  # fmt: skip
@example([5.0] * 500, 16, False, 1, 0.0, 0.0, 1.0, 1.0)
@example([0.0] + [1000.0] * 300 + [2000.0], 8, False, 2, 0.0, 0.5, 1.0, 1.0)
def test_every_row_is_found_once_whatever_the_rows_the_bounds_and_the_interleaving(
    times: list[float],
    walkers: int,
    closed: bool,
    seed: int,
    misled: float,
    density: float,
    overlap: float,
    guess: float,
) -> None:
    # The span is only about right, and so is what a row says of its place.
    plan = Plan(times[0] * guess, times[-1] * guess + 1, walkers, overlap=overlap, density=density)
    simulation = Simulation(times, plan, closed)
    simulation.run(walkers, random.Random(seed), misled)
    assert sorted(simulation.found) == list(range(len(times)))
    assert not plan.active


@pytest.mark.parametrize("shape", ["even", "bursts", "one instant", "a gap"])
@pytest.mark.parametrize("rows", [1_000, 30_000])
def test_windows_cost_few_pages_and_share_the_work(shape: str, rows: int) -> None:
    draw = random.Random(4)
    times = sorted(
        {
            "even": lambda: draw.uniform(0, 1e6),
            "bursts": lambda: draw.choice([1e5, 4e5, 4.1e5, 9e5]) + draw.expovariate(1 / 500),
            "one instant": lambda: 5e5 if draw.random() < 0.3 else draw.uniform(0, 1e6),
            "a gap": lambda: draw.choice([draw.uniform(0, 1e4), draw.uniform(9.9e5, 1e6)]),
        }[shape]()
        for _ in range(rows)
    )
    walkers = 16
    simulation = Simulation(times, Plan(0.0, 1e6, walkers, overlap=1.0), closed=True, page=50)
    simulation.run(walkers, random.Random(1), 0.0)
    assert sorted(simulation.found) == list(range(rows))
    assert simulation.requests <= rows / 50 * 1.12 + 60


def test_ids_are_remembered_only_while_they_can_come_again() -> None:
    times = [float(number) for number in range(100_000)]
    plan = Plan(0.0, 1e5, 4, overlap=1.0)
    plan.may_cut = True
    simulation = Simulation(times, plan, closed=True, page=50)
    most = 0
    at: dict[Window, int] = {}
    families = set()
    while True:
        while len(at) < 4 and (window := plan.take()) is not None:
            at[window] = 0
            families.add(window.family)
        if not at:
            break
        window = min(at, key=lambda each: at[each])
        offset = simulation.step(window, at.pop(window), 0.0)
        if offset is None:
            plan.finish(window)
        else:
            at[window] = offset
        most = max(most, sum(len(family.ids) for family in families))
    assert len(simulation.found) == 100_000
    assert most < 60_000
    assert plan.last


# --- cursors that are offsets -----------------------------------------------------------------------------


def coded(text: str, *, urlsafe: bool = False) -> str:
    raw = text.encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=") if urlsafe else base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("cursors", "at_1234"),
    [
        (["50", "100", "150"], "1234"),
        (["49", "99", "149"], "1233"),
        ([coded(f"arrayconnection:{n}") for n in (49, 99, 149)], coded("arrayconnection:1233")),
        ([coded(f"v2:{n}:x") for n in (50, 100, 150)], coded("v2:1234:x")),
        ([coded(f'{{"o":{n}}}', urlsafe=True) for n in (50, 100, 150)], coded('{"o":1234}', urlsafe=True)),
    ],
)
def test_offsets_are_recognised_by_the_servers_own_cursors(cursors: list[str], at_1234: str) -> None:
    make = cursor_at(cursors, [50, 100, 150])
    assert make is not None
    assert make(1234) == at_1234


@pytest.mark.parametrize(
    "cursors",
    [
        ["50"],
        ["50", "100", "151"],
        ["a", "b", "c"],
        [coded("after:1704067202774.559:17"), coded("after:1704067302774.5:66"), coded("after:1:2")],
        ["====", "=", "\xff"],
        ["050", "100", "150"],
    ],
)
def test_cursors_that_are_no_offsets_are_not_taken_for_them(cursors: list[str]) -> None:
    assert cursor_at(cursors, [50, 100, 150][: len(cursors)]) is None


# --- against the sandbox ----------------------------------------------------------------------------------

SWITCHES = [
    {"cursor": cursor, "nulls": nulls, "bounds": bounds, "unit": unit}
    for cursor, nulls, bounds, unit in itertools.product(
        ("offset", "keyset"), ("last", "first"), ("closed", "open"), ("ms", "s")
    )
]


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda switches: "-".join(switches.values()))
async def test_windows_find_every_conversation_once_in_each_mode(
    make_client: ClientFactory, switches: dict[str, Any]
) -> None:
    async with Sandbox(conversations=1200, embed="all", **switches) as sandbox:
        found = [each.id async for each in make_client(sandbox).conversations.transcripts(raw=True)]
        assert sorted(found) == sorted(sandbox.conversation_ids())
        assert any(
            "firstChatEndAt" in dict(each.query) and "cursor" in dict(each.query) for each in sandbox.received
        )
        assert sandbox.count("listConversations") <= 24 + 20


@pytest.mark.parametrize("nulls", ["last", "first"])
@pytest.mark.parametrize("cursor", ["offset", "keyset"])
async def test_nothing_that_stood_at_the_start_is_lost_while_everything_moves(
    make_client: ClientFactory, cursor: Any, nulls: Any
) -> None:
    churn = Churn(new_chats=5, new_conversations=1)
    async with Sandbox(conversations=1500, cursor=cursor, nulls=nulls, churn=churn) as sandbox:
        before = {each: set(sandbox.chat_ids(each)) for each in sandbox.conversation_ids()}
        found: dict[str, set[str]] = {}
        async for each in make_client(sandbox).conversations.transcripts(raw=True):
            assert each.id not in found
            found[each.id] = {one["id"] for one in json.loads(each.json)["chats"]}
        assert before.keys() <= found.keys()
        assert all(chats <= found[each] for each, chats in before.items())


@pytest.mark.parametrize("switch", [{"first_chat_filters": "ignored"}, {"first_chat_orders": "refused"}])
@pytest.mark.parametrize("churn", [None, Churn(new_chats=3)])
async def test_where_windows_cannot_be_used_a_plain_walk_serves(
    make_client: ClientFactory, switch: dict[str, Any], churn: Churn | None
) -> None:
    async with Sandbox(conversations=700, **switch, churn=churn) as sandbox:
        found = [each.id async for each in make_client(sandbox).conversations.transcripts(raw=True)]
        assert sorted(found) == sorted(sandbox.conversation_ids())


@pytest.mark.parametrize("unit", ["ms", "s"])
@pytest.mark.parametrize("churn", [None, Churn(new_chats=3)])
async def test_filters_on_the_last_chat_are_walked_from_the_top_and_swept(
    make_client: ClientFactory, unit: Any, churn: Churn | None
) -> None:
    async with Sandbox(conversations=1500, unit=unit) as quiet:
        api = make_client(quiet).conversations
        times = sorted([each.last_chat async for each in api.list() if each.last_chat is not None])
        span: dict[str, Any] = {"started_at": times[300], "end_at": times[1100]}
        expected = {each.id async for each in api.list(**span)}
        assert {each.id async for each in api.transcripts(raw=True, **span)} == expected
        as_numbers = {name: moment.timestamp() * (1000 if unit == "ms" else 1) for name, moment in span.items()}
        assert {each.id async for each in api.transcripts(raw=True, **as_numbers)} == expected
    async with Sandbox(conversations=1500, unit=unit, churn=churn) as sandbox:
        stream = make_client(sandbox).conversations.transcripts(raw=True, started_at=times[300])
        found = [each.id async for each in stream]
        assert len(found) == len(set(found))
        assert {each for each in expected if each in set(sandbox.conversation_ids())} <= set(found)


@pytest.mark.parametrize("unit", ["ms", "s"])
@pytest.mark.timeout(30)
async def test_a_walk_from_the_top_ends_although_something_is_new_each_time_it_looks(
    make_client: ClientFactory, unit: Any
) -> None:
    churn = Churn(new_chats=5, new_conversations=1)
    async with Sandbox(conversations=1500, unit=unit, churn=churn) as sandbox:
        before = {each: set(sandbox.chat_ids(each)) for each in sandbox.conversation_ids()}
        found: dict[str, set[str]] = {}
        async for each in make_client(sandbox).conversations.transcripts(raw=True, started_at=1.0):
            assert each.id not in found
            found[each.id] = {one["id"] for one in json.loads(each.json)["chats"]}
        assert {each for each, chats in before.items() if chats} <= found.keys()
        assert all(before[each] <= chats for each, chats in found.items() if each in before)
        assert sandbox.count("listConversations") < 50


# Each page asked for makes the list longer; and where those without chats stand first and get some, rows are
# passed over, and one cursor walks once more.
@pytest.mark.parametrize("cursor", ["offset", "keyset"])
@pytest.mark.parametrize(
    ("nulls", "switch", "ordered", "most"),
    [
        ("last", {}, False, 2.5),
        ("first", {}, False, 2.5),
        ("last", {}, True, 1.5),
        ("first", {}, True, 7),
        ("last", {"first_chat_filters": "ignored"}, False, 7),
        ("first", {"first_chat_filters": "ignored"}, False, 7),
    ],
)
@pytest.mark.timeout(60)
async def test_a_walk_ends_although_conversations_begin_all_the_time(
    make_client: ClientFactory, cursor: Any, nulls: Any, switch: dict[str, Any], ordered: bool, most: float
) -> None:
    churn = Churn(new_chats=5, new_conversations=10)
    async with Sandbox(
        conversations=4000, embed="all", churn=churn, cursor=cursor, nulls=nulls, **switch
    ) as sandbox:
        before = sandbox.conversation_ids()
        found = [
            each.id async for each in make_client(sandbox).conversations.transcripts(raw=True, ordered=ordered)
        ]
        assert set(before) <= set(found)
        assert len(found) == len(set(found))
        assert sandbox.count("listConversations") <= 80 * most


def without_chats(sandbox: Sandbox) -> int:
    return sum(not sandbox.chat_ids(each) for each in sandbox.conversation_ids())


@pytest.mark.parametrize("cursor", ["offset", "keyset"])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("filters", ["honoured", "ignored"])
async def test_a_first_chat_that_comes_while_those_without_are_walked_at_the_end_hides_no_conversation(
    make_client: ClientFactory, cursor: Any, ordered: bool, filters: Any
) -> None:
    moved: list[str] = []

    async def one_moves_up(request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        if request.operation == "listConversations" and not moved and "_DESC" not in request.query:
            rows = json.loads(response.body)["conversations"]
            if len(rows) == 50 and rows[0].get("lastChatTime") is None:
                moved.append(last)
                sandbox.add_chats(1, last)
        return response

    async with Sandbox(conversations=4000, cursor=cursor, embed="all", first_chat_filters=filters) as sandbox:
        assert without_chats(sandbox) > 100
        listed = make_client(sandbox).conversations.list(order=Order.FIRST_CHAT_TIME_ASC)
        last = [each.id async for each in listed][-1]
        client = make_client(sandbox, middlewares=[one_moves_up])
        found = [each.id async for each in client.conversations.transcripts(raw=True, ordered=ordered)]
        assert moved == [last]
        assert sorted(found) == sorted(sandbox.conversation_ids())


async def test_a_first_chat_that_comes_after_the_last_window_hides_no_conversation(
    make_client: ClientFactory,
) -> None:
    ended = asyncio.Event()
    moved: list[str] = []

    async def late(request: Any, call_next: Any) -> Response:
        query = request.query
        if request.operation == "listConversations" and "firstChat" not in query and "cursor" in query:
            asked.append(query)
            # Three pages are asked for before there are windows; it is on none of them.
            if len(asked) > 2 or "_DESC" in query:
                await ended.wait()
                if not moved:
                    moved.append(one)
                    sandbox.add_chats(1, one)
        response: Response = await call_next(request)
        open_ended = "firstChatStartedAt" in query and "firstChatEndAt" not in query and "pageSize=50" in query
        if open_ended and not json.loads(response.body).get("cursor"):
            ended.set()
        return response

    async with Sandbox(conversations=9000, nulls="first", embed="all") as sandbox:
        asked: list[str] = []
        assert without_chats(sandbox) > 250
        listed = make_client(sandbox).conversations.list(order=Order.FIRST_CHAT_TIME_ASC)
        one = [each.id async for each in listed][170]
        client = make_client(sandbox, middlewares=[late])
        async with asyncio.timeout(30):
            found = [each.id async for each in client.conversations.transcripts(raw=True)]
        assert moved == [one]
        assert sorted(found) == sorted(sandbox.conversation_ids())


async def test_filters_on_the_first_chat_are_kept_by_the_outermost_windows(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=2000) as sandbox:
        api = make_client(sandbox).conversations
        times = sorted([each.created async for each in api.list()])
        for span in (
            {"first_chat_started_at": times[200]},
            {"first_chat_end_at": times[1500]},
            {"first_chat_started_at": times[200], "first_chat_end_at": times[1500]},
        ):
            expected = sorted([each.id async for each in api.list(**span)])
            assert sorted([each.id async for each in api.transcripts(raw=True, **span)]) == expected
            assert 400 < len(expected) < 2000


@pytest.mark.parametrize(
    "answer_to_it", ["ok", "500", "503", "429", "reset_after", "truncated", "html", "broken_json"]
)
async def test_a_long_list_is_cut_by_the_daily_counts_where_the_server_has_them(
    make_client: ClientFactory, answer_to_it: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windowed, "_WORTH_ASKING", 500)
    async with Sandbox(conversations=1500, embed="all", retry_after="none") as sandbox:
        sandbox.script("getDailyConversationCount", [answer_to_it])
        found = [each.id async for each in make_client(sandbox).conversations.transcripts(raw=True)]
        assert sorted(found) == sorted(sandbox.conversation_ids())
        assert sandbox.count("getDailyConversationCount") == 1


async def test_daily_counts_that_say_nothing_useful_do_no_harm(
    make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windowed, "_WORTH_ASKING", 500)
    for days in ([], [{"date": "soon", "activeCount": 3}], [{"date": "2024-01-01", "activeCount": 0}] * 3):

        async def says(request: Any, call_next: Any, days: list[Any] = days) -> Response:
            response: Response = await call_next(request)
            if request.operation == "getDailyConversationCount":
                response.body = json.dumps({"result": {"dailyTotalCount": days}, "errors": None}).encode()
            return response

        async with Sandbox(conversations=1500, embed="all") as sandbox:
            client = make_client(sandbox, middlewares=[says])
            found = [each.id async for each in client.conversations.transcripts(raw=True)]
            assert sorted(found) == sorted(sandbox.conversation_ids())


async def test_a_short_list_is_not_worth_asking_for_daily_counts(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=1500, embed="all") as sandbox:
        assert len([each async for each in make_client(sandbox).conversations.transcripts(raw=True)]) == 1500
        assert not sandbox.count("getDailyConversationCount")


# --- against a server of rows -----------------------------------------------------------------------------


@dataclass
class Rows:
    """A list whose first chat times are given, with a mind of its own about cursors.

    A cursor is a token that the server knows all about, or a plain offset. `chatless` of the conversations have
    no chats and stand where `nulls` says: "last" or "first" in both orders, or "smallest" or "largest", as
    databases do without being told. `minds` is what happens to a token that comes back with other filters. All
    were created so much `older` than their first chat.
    """

    times: list[float]
    minds: str = "nothing"
    chatless: int = 0
    nulls: str = "last"
    cursor: str = "token"
    older: float = 0.0
    given: dict[str, tuple[str, int]] = field(default_factory=dict)
    changed: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)

    async def __call__(self, exchange: Exchange) -> None:
        path, query = split(exchange.request)
        if path.endswith("/chats"):
            await exchange.send(answer(200, {"chats": [], "pageNo": 1, "totalCount": 0}))
            return
        self.asked.append(query)
        await exchange.send(self._page(query))

    def _page(self, query: dict[str, str]) -> bytes:
        window = query.get("firstChatStartedAt", "") + ".." + query.get("firstChatEndAt", "")
        offset, size = 0, int(query["pageSize"])
        if "cursor" in query and "%" in self.cursor:
            offset = int(query["cursor"].partition(":")[2])
        elif "cursor" in query:
            former, offset = self.given[query["cursor"]]
            if former != window:
                self.changed += 1
                if self.minds == "refuses":
                    return answer(400, {"type": "APIError", "code": 7003, "message": "cursor"})
                if self.minds == "gives nothing":
                    return answer(200, {"conversations": [], "cursor": None})
                if self.minds == "starts anew":
                    offset = 0
                if self.minds == "goes on as before":
                    window = former
        rows = self._rows(window, query["order"].endswith("DESC"))
        cursor = None
        if offset + size < len(rows):
            cursor = self.cursor % (offset + size) if "%" in self.cursor else f"token-{len(self.given):x}z"
            self.given[cursor] = window, offset + size
        return answer(200, {"conversations": rows[offset : offset + size], "cursor": cursor})

    def _rows(self, window: str, descending: bool) -> list[dict[str, Any]]:
        start, end = (float(bound) if bound else None for bound in window.split(".."))
        timed = [
            conversation(id=f"c{number}", createdAt=time - self.older, lastChatTime=time)
            for number, time in enumerate(self.times)
            if (start is None or start <= time) and (end is None or time <= end)
        ]
        chatless = [
            conversation(id=f"n{number}", createdAt=START + number, lastChatTime=None)
            for number in range(self.chatless if window == ".." else 0)
        ]
        if descending:
            timed.reverse()
        before = {"first": True, "last": False, "smallest": not descending, "largest": descending}[self.nulls]
        return chatless + timed if before else timed + chatless

    @property
    def ids(self) -> list[str]:
        return sorted([f"c{n}" for n in range(len(self.times))] + [f"n{n}" for n in range(self.chatless)])


START = 1_704_067_200_000.0


def skewed(rows: int) -> list[float]:
    """Nearly all within one minute of a year; a third at one instant."""
    draw = random.Random(7)
    crowd = [START + 2e10 + (0.0 if draw.random() < 0.4 else draw.uniform(0, 60_000)) for _ in range(rows)]
    return sorted([*crowd, *(START + draw.uniform(0, 3e10) for _ in range(rows // 50))])


@pytest.mark.parametrize("minds", ["nothing", "refuses", "gives nothing", "starts anew"])
async def test_a_crowd_is_split_and_a_server_that_minds_loses_nothing(
    make_client: ClientFactory, minds: str
) -> None:
    rows = Rows(skewed(4000), minds)
    async with ScriptedServer(rows) as server:
        found = [each.id async for each in make_client(server).conversations.transcripts(raw=True)]
        assert sorted(found) == rows.ids
        assert rows.changed > (2 if minds == "nothing" else 0)


@pytest.mark.parametrize("chatless", [0, 7, 120])
@pytest.mark.parametrize("nulls", ["last", "first", "smallest", "largest"])
@pytest.mark.parametrize(
    ("cursor", "minds"),
    [
        ("offset:%d", "nothing"),
        *(("token", each) for each in ("nothing", "refuses", "gives nothing", "starts anew", "goes on as before")),
    ],
)
async def test_conversations_without_chats_are_found_wherever_they_stand_and_whatever_cursors_are(
    make_client: ClientFactory, chatless: int, nulls: str, minds: str, cursor: str
) -> None:
    draw = random.Random(3)
    times = sorted(START + draw.uniform(0, 1e9) for _ in range(600))
    rows = Rows(times, minds, chatless, nulls, cursor)
    async with ScriptedServer(rows) as server:
        found = [each.id async for each in make_client(server).conversations.transcripts(raw=True)]
        assert sorted(found) == rows.ids
        assert any("firstChatEndAt" in query and "cursor" in query for query in rows.asked)


async def test_a_cursor_that_counts_too_far_is_stepped_back_from(make_client: ClientFactory) -> None:
    draw = random.Random(3)
    rows = Rows(sorted(START + draw.uniform(0, 1e9) for _ in range(1500)), chatless=400, cursor="offset:%d")
    # After it was counted, most of the list goes: what is asked for lies beyond its end.

    async def shrinks(request: Any, call_next: Any) -> Response:
        if "cursor=offset%3A1450" in request.query:
            rows.times = rows.times[:600]
        response: Response = await call_next(request)
        return response

    async with ScriptedServer(rows) as server:
        client = make_client(server, middlewares=[shrinks])
        found = [each.id async for each in client.conversations.transcripts(raw=True)]
        assert {f"n{number}" for number in range(400)} <= set(found)


@pytest.mark.parametrize("older", [0.0, 5e8, 5e9])
async def test_bounds_on_first_chats_hold_for_conversations_created_long_before(
    make_client: ClientFactory, older: float
) -> None:
    draw = random.Random(4)
    times = sorted(START + draw.uniform(0, 1e9) for _ in range(1500))
    async with ScriptedServer(Rows(times, older=older)) as server:
        stream = make_client(server).conversations.transcripts(
            raw=True, first_chat_started_at=times[200], first_chat_end_at=times[1300]
        )
        found = [each.id async for each in stream]
        assert sorted(found) == sorted(f"c{number}" for number in range(200, 1301))


async def test_a_list_whose_first_page_is_empty_is_walked_plainly(make_client: ClientFactory) -> None:
    draw = random.Random(4)
    rows = Rows(sorted(START + draw.uniform(0, 1e9) for _ in range(400)), cursor="offset:%d")

    async def behind_its_cursor(exchange: Exchange) -> None:
        path, query = split(exchange.request)
        if path.endswith("conversations") and query.keys() == {"pageSize", "order"} and "ASC" in query["order"]:
            await exchange.send(answer(200, {"conversations": [], "cursor": "offset:0"}))
        else:
            await rows(exchange)

    async with ScriptedServer(behind_its_cursor) as server:
        found = [each.id async for each in make_client(server).conversations.transcripts(raw=True)]
        assert sorted(found) == rows.ids


async def test_a_list_of_one_instant_is_walked_plainly(make_client: ClientFactory) -> None:
    rows = Rows([START] * 400)
    async with ScriptedServer(rows) as server:
        found = [each.id async for each in make_client(server).conversations.transcripts(raw=True)]
        assert sorted(found) == rows.ids


@pytest.mark.parametrize("switches", SWITCHES[::2], ids=lambda switches: "-".join(switches.values()))
async def test_thousands_at_one_instant_come_once_in_each_mode(
    make_client: ClientFactory, switches: dict[str, Any]
) -> None:
    async with Sandbox(conversations=3200, crowd=1900, embed="all", **switches) as sandbox:
        found = [each.id async for each in make_client(sandbox).conversations.transcripts(raw=True)]
        assert sorted(found) == sorted(sandbox.conversation_ids())


async def test_thousands_at_one_instant_are_simply_walked(make_client: ClientFactory) -> None:
    times = sorted([START] * 3000 + [START + 1e9] * 10 + [START - 1e9] * 200)
    async with ScriptedServer(Rows(times)) as server:
        found = [each.id async for each in make_client(server).conversations.transcripts(raw=True)]
        assert sorted(found) == sorted(f"c{number}" for number in range(len(times)))
        assert len(server.requests) < 64 * 3


async def test_numbers_that_are_no_dates_are_walked_plainly(make_client: ClientFactory) -> None:
    async with ScriptedServer(Rows([float(number) for number in range(400)])) as server:
        found = [each.id async for each in make_client(server).conversations.transcripts(raw=True)]
        assert len(found) == len(set(found)) == 400
        assert not any("firstChat" in request.target for request in server.requests)


async def test_a_server_that_refuses_windows_beyond_the_end_is_walked_plainly(make_client: ClientFactory) -> None:
    async def refuses(request: Any, call_next: Any) -> Response:
        if "firstChat" in request.query and "Time" not in request.query:
            return Response(400, {}, b'{"type": "APIError", "code": 7003, "message": "no"}')
        response: Response = await call_next(request)
        return response

    async with Sandbox(conversations=500) as sandbox:
        client = make_client(sandbox, middlewares=[refuses])
        found = [each.id async for each in client.conversations.transcripts(raw=True)]
        assert sorted(found) == sorted(sandbox.conversation_ids())


async def test_an_error_that_is_no_refusal_of_the_order_is_raised(make_client: ClientFactory) -> None:
    async def strange(request: Any, call_next: Any) -> Response:
        return Response(409, {}, b'{"type": "APIError", "code": 7999, "message": "no"}')

    async with Sandbox(conversations=5) as sandbox:
        client = make_client(sandbox, middlewares=[strange])
        with pytest.raises(BadRequestError, match="no"):
            async for _ in client.conversations.transcripts():
                pass


@pytest.mark.parametrize("refuses", [True, False], ids=["beyond the end is an error", "beyond the end is nothing"])
async def test_the_end_is_found_by_a_few_requests_however_wrong_the_number_of_rows_is(
    make_client: ClientFactory, refuses: bool
) -> None:
    async def refuse(request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        if refuses and int(request.query.partition("cursor=offset%3A")[2].partition("&")[0] or 0) > 5120:
            response.status, response.body = 400, b'{"code": 7003, "message": "cursor"}'
        return response

    rows = Rows([START + number * 1000.0 for number in range(5000)], chatless=120, cursor="offset:%d")
    async with ScriptedServer(rows) as server:
        listing = listing_of(make_client(server, middlewares=[refuse]).conversations._session, Filters(()))
        first = await listing.page(order=Order.FIRST_CHAT_TIME_ASC)
        pages = [first, await listing.page(order=Order.FIRST_CHAT_TIME_ASC, cursor=first.cursor)]
        asked = {}
        for guess in (0, 50, 700, 4000, 4900, 5000, 5010, 5120, 6000, 50_000):
            rows.asked.clear()
            near = await near_the_end(listing, pages, guess)
            assert near is not None
            at = int(near.conversations[0].id[1:])
            # The page that shows where those without chats begin, or the one before it.
            assert 4900 <= at < 5000
            asked[guess] = len(rows.asked)
        assert asked[5000] == 1
        assert max(asked.values()) <= 20
        # Where the first pages hold all that have chats, there is nothing near the end to go to.
        rows.times = rows.times[:80]
        assert await near_the_end(listing, pages, 80) is None
