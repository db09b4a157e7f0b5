from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from alli_async.sandbox.data import CHAT_COUNTS, Data
from alli_async.sandbox.marks import Marks
from alli_async.sandbox.operations import Call, Operations
from alli_async.sandbox.options import Options
from alli_async.sandbox.store import Store

SIZE = 20_000


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(7, "ms")


def operations(conversations: int, seed: int = 1) -> tuple[Operations, Data]:
    options = Options(conversations=conversations, seed=seed)
    data = Data(seed, "ms")
    return Operations(Store(data, options), options, Marks()), data


def shown(conversations: int, index: int, seed: int = 1) -> bytes:
    made, data = operations(conversations, seed)
    call = Call((data.conversation_id(index),), [], b"")
    return made.run("getConversation", call) + made.run("listConversationChats", call)


@pytest.mark.parametrize("index", [0, 63, 64, 99])
def test_a_conversation_has_the_same_bytes_whatever_the_size(index: int) -> None:
    assert shown(100, index) == shown(3000, index) == shown(1_000_000, index)


def test_another_seed_makes_other_conversations_with_other_ids() -> None:
    assert shown(100, 5, seed=1) != shown(100, 5, seed=2)
    assert Data(1, "ms").conversation_id(5) != Data(2, "ms").conversation_id(5)


def test_most_conversations_are_short_and_a_few_are_very_long() -> None:
    share = Counter(
        "none" if n == 0 else "short" if n <= 20 else "long" if n <= 600 else "huge" for n in CHAT_COUNTS
    )
    assert 0.02 < share["none"] / len(CHAT_COUNTS) < 0.04
    assert 0.85 < share["short"] / len(CHAT_COUNTS) < 0.9
    assert share["huge"] == 4
    assert max(CHAT_COUNTS) == 3000
    assert 12 < sum(CHAT_COUNTS) / len(CHAT_COUNTS) < 14


def test_the_bulk_orders_agree_with_each_conversation_by_itself(data: Data) -> None:
    for keys, ids, empty, last in ((*data.firsts(3000), False), (*data.lasts(3000), True)):
        assert sorted([*ids, *empty]) == list(range(3000))
        assert all(a < b for a, b in pairwise(zip(keys, ids, strict=True)))
        for key, index in zip(keys, ids, strict=True):
            born = data.born(index)
            assert key == born.first_ms + (born.chats - 1) * born.gap_ms * last
        assert all(data.born(index).chats == 0 for index in empty)


def test_first_chat_times_come_evenly_and_in_bursts_and_at_equal_instants(data: Data) -> None:
    keys, _, _ = data.firsts(SIZE)
    assert max(Counter(keys).values()) > 50
    near = Counter(int(key // 1000) for key in keys)
    assert sum(1 for count in near.values() if count > 20) > 20
    assert len({key % 1 for key in keys}) > 100  # fractions of a millisecond


def test_a_crowd_begins_at_one_instant_and_moves_nobody_else() -> None:
    plain, crowded = Data(7, "ms"), Data(7, "ms", crowd=1000)
    firsts = [crowded.born(index).first_ms for index in range(3000)]
    assert set(firsts[512:1536]) == {firsts[512]}  # in whole groups
    assert firsts == sorted(firsts)
    elsewhere = [*range(512), *range(1536, 3000)]
    assert all(plain.born(index) == crowded.born(index) for index in elsewhere)
    assert firsts[511] < firsts[512] < firsts[1536]


def test_last_chat_order_is_quite_another_than_first_chat_order_and_lies_in_the_past(data: Data) -> None:
    keys, ids, _ = data.lasts(SIZE)
    assert sum(abs(place - index) for place, index in enumerate(ids)) / SIZE > 200
    assert keys[-1] < data.now_ms(SIZE)
    assert data.now_ms(10_000_000) > data.born(9_999_999).first_ms


def test_some_chats_of_a_conversation_share_one_instant(data: Data) -> None:
    gaps = [data.born(index).gap_ms for index in range(2000)]
    assert 0.01 < gaps.count(0.0) / len(gaps) < 0.04


@pytest.mark.parametrize("index", [0, 1, 1023, 999_999, (1 << 32) - 1])
@pytest.mark.parametrize("sequence", [0, 1, 2999])
def test_ids_lead_back_to_the_index(data: Data, index: int, sequence: int) -> None:
    assert data.conversation_index(data.conversation_id(index)) == index
    chat_id = data.chat_id(index, sequence).decode()
    assert data.chat_sequence(index, chat_id) == sequence
    assert data.chat_sequence(index + 1, chat_id) is None
    assert data.conversation_index(chat_id) is None


def test_ids_look_like_those_of_the_service(data: Data) -> None:
    made = data.conversation_id(3)
    assert made.startswith("Q29udmVyc2F0aW9uO")
    assert made.endswith("==")
    assert "=" in data.chat_id(3, 1).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "Q29udmVyc2F0aW9u",
        "é",
        "\udc80",
        "====",
        "Q29udmVyc2F0aW9uOjAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMA==",
    ],
)
def test_what_is_no_id_leads_nowhere(data: Data, text: str) -> None:
    assert data.conversation_index(text) is None
    assert data.chat_sequence(0, text) is None


def test_only_the_spelling_that_was_given_out_is_an_id(data: Data) -> None:
    made = data.conversation_id(3)
    assert data.conversation_index(made.rstrip("=")) is None
    assert data.conversation_index(f" {made}") is None
