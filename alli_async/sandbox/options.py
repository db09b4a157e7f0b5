"""The options of a sandbox: their types, their defaults and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, TypedDict, get_args

from .checks import check_choice, check_faults, check_flag, check_integer, check_number, check_share, wrong
from .faults import FAULTS

Cursor = Literal["offset", "keyset", "relay", "opaque", "endless"]
Ties = Literal["stable", "shuffled"]
Order = Literal["honoured", "ignored"]
FilterNumbers = Literal["any", "whole", "seconds"]
Bounds = Literal["closed", "open"]
Nulls = Literal["last", "first"]
Unit = Literal["ms", "s"]
EmbedOrder = Literal["oldest_first", "newest_first"]
PageNo = Literal["honoured", "ignored"]
ChatTimes = Literal["follow", "kept"]
RetryAfter = Literal["seconds", "date", "none"]
ChatCount = Literal["total", "user"]
FirstChatFilters = Literal["honoured", "ignored"]
FirstChatOrders = Literal["honoured", "refused"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Churn:
    """Changes of the data after each list page. All conversations and chats are chosen at random.

    Attributes:
        new_chats: Number of chats that arrive.
        deleted_chats: Number of chats that are deleted.
        new_conversations: Number of conversations that begin.
        deleted_first_chats: Number of conversations that lose their first chat.
        deleted_conversations: Number of conversations that are deleted.
        ended_conversations: Number of conversations that end (`isEnd` becomes true).
    """

    new_chats: int = 3
    deleted_chats: int = 0
    new_conversations: int = 0
    deleted_first_chats: int = 0
    deleted_conversations: int = 0
    ended_conversations: int = 0

    def __post_init__(self) -> None:
        for each in fields(self):
            check_integer(f"Churn.{each.name}", getattr(self, each.name), 0)


class SandboxOptions(TypedDict, total=False):
    """The keywords of `Sandbox`, for functions that pass them on."""

    conversations: int
    crowd: int
    seed: int
    host: str
    port: int
    latency: float
    cursor: Cursor
    ties: Ties
    order: Order
    bounds: Bounds
    filter_numbers: FilterNumbers
    nulls: Nulls
    null_last_chat: float
    first_chat_fallback: bool
    unit: Unit
    page_cap: int | None
    ragged: bool
    heavy_page: int | None
    embed: int | Literal["all"]
    embed_order: EmbedOrder
    embed_abridged: int | None
    page_no: PageNo
    chat_lag: int
    chat_times: ChatTimes
    retry_after: RetryAfter
    chat_count: ChatCount
    first_chat_filters: FirstChatFilters
    first_chat_orders: FirstChatOrders
    rate_limit: float | None
    burst: float | None
    max_in_flight: int | None
    faults: Mapping[str, float]
    churn: Churn | None
    compress: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Checked options; `Sandbox` documents them."""

    conversations: int = 100
    crowd: int = 0
    seed: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    latency: float = 0.0
    cursor: Cursor = "offset"
    ties: Ties = "stable"
    order: Order = "honoured"
    bounds: Bounds = "closed"
    filter_numbers: FilterNumbers = "any"
    nulls: Nulls = "last"
    null_last_chat: float = 0.0
    first_chat_fallback: bool = False
    unit: Unit = "ms"
    page_cap: int | None = None
    ragged: bool = False
    heavy_page: int | None = None
    embed: int | Literal["all"] = 20
    embed_order: EmbedOrder = "oldest_first"
    embed_abridged: int | None = None
    page_no: PageNo = "honoured"
    chat_lag: int = 0
    chat_times: ChatTimes = "follow"
    retry_after: RetryAfter = "seconds"
    chat_count: ChatCount = "total"
    first_chat_filters: FirstChatFilters = "honoured"
    first_chat_orders: FirstChatOrders = "honoured"
    rate_limit: float | None = None
    burst: float | None = None
    max_in_flight: int | None = None
    faults: Mapping[str, float] = field(default_factory=dict)
    churn: Churn | None = None
    compress: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in ("first_chat_fallback", "ragged", "compress"):
            check_flag(name, getattr(self, name))
        for name, (low, high) in _INTEGERS.items():
            check_integer(name, getattr(self, name), low, high)
        for name, low in _OPTIONAL_INTEGERS.items():
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), low, more=" or None")
        check_number("latency", self.latency, zero=True)
        check_share("null_last_chat", self.null_last_chat)
        if self.embed != "all":
            check_integer("embed", self.embed, 0, more=' or "all"')
        if not isinstance(self.host, str) or not self.host:
            raise wrong("host", "an address to listen on", self.host)
        if not isinstance(self.churn, Churn | None):
            raise wrong("churn", "a Churn or None", self.churn)
        if self.ties == "shuffled" and self.cursor == "keyset":
            raise ValueError('ties must be "stable" with cursor="keyset", which gives equal rows a fixed order')
        self._check_rate()
        check_faults(self.faults, FAULTS)

    def _check_rate(self) -> None:
        if self.rate_limit is not None:
            check_number("rate_limit", self.rate_limit)
        if self.burst is not None:
            check_number("burst", self.burst)
            if self.burst < 1 or self.rate_limit is None:
                raise ValueError(f"burst must be at least 1 and stand beside a rate_limit, not {self.burst!r}")


_CHOICES: dict[str, tuple[str, ...]] = {
    "cursor": get_args(Cursor),
    "ties": get_args(Ties),
    "order": get_args(Order),
    "bounds": get_args(Bounds),
    "filter_numbers": get_args(FilterNumbers),
    "nulls": get_args(Nulls),
    "unit": get_args(Unit),
    "embed_order": get_args(EmbedOrder),
    "page_no": get_args(PageNo),
    "chat_times": get_args(ChatTimes),
    "retry_after": get_args(RetryAfter),
    "chat_count": get_args(ChatCount),
    "first_chat_filters": get_args(FirstChatFilters),
    "first_chat_orders": get_args(FirstChatOrders),
}
# The lowest and the highest value.
_INTEGERS: dict[str, tuple[int | None, int | None]] = {
    "conversations": (0, 1 << 32),
    "crowd": (0, 1 << 32),
    "seed": (None, None),
    "port": (0, 65535),
    "chat_lag": (0, None),
}
# The lowest value; None switches the option off.
_OPTIONAL_INTEGERS = {"page_cap": 1, "heavy_page": 0, "embed_abridged": 0, "max_in_flight": 1}
