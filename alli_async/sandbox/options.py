"""What can be chosen about a sandbox, and what would be a wrong choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, get_args

from .faults import FAULTS

Cursor = Literal["offset", "keyset"]
Bounds = Literal["closed", "open"]
Nulls = Literal["last", "first"]
Unit = Literal["ms", "s"]
EmbedOrder = Literal["oldest_first", "newest_first"]
RetryAfter = Literal["seconds", "date", "none"]
ChatCount = Literal["total", "user"]
FirstChatFilters = Literal["honoured", "ignored"]
FirstChatOrders = Literal["honoured", "refused"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Churn:
    """What happens to the data after each list page served.

    Attributes:
        new_chats: How many chats arrive, in conversations chosen at random.
        deleted_chats: How many chats are deleted, chosen at random.
        new_conversations: How many conversations begin.
    """

    new_chats: int = 3
    deleted_chats: int = 0
    new_conversations: int = 0

    def __post_init__(self) -> None:
        for name in ("new_chats", "deleted_chats", "new_conversations"):
            _check_integer(f"Churn.{name}", getattr(self, name), 0)


class SandboxOptions(TypedDict, total=False):
    """The keywords of `Sandbox`, for functions that pass them on."""

    conversations: int
    crowd: int
    seed: int
    host: str
    port: int
    latency: float
    cursor: Cursor
    bounds: Bounds
    nulls: Nulls
    unit: Unit
    embed: int | Literal["all"]
    embed_order: EmbedOrder
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
    bounds: Bounds = "closed"
    nulls: Nulls = "last"
    unit: Unit = "ms"
    embed: int | Literal["all"] = 20
    embed_order: EmbedOrder = "oldest_first"
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
            if getattr(self, name) not in choices:
                raise _wrong(name, f"one of {', '.join(choices)}", getattr(self, name))
        _check_integer("conversations", self.conversations, 0, 1 << 32)
        _check_integer("crowd", self.crowd, 0, 1 << 32)
        _check_integer("seed", self.seed)
        _check_integer("port", self.port, 0, 65535)
        _check_number("latency", self.latency, zero=True)
        if self.embed != "all":
            _check_integer("embed", self.embed, 0, more=' or "all"')
        if not isinstance(self.host, str) or not self.host:
            raise _wrong("host", "an address to listen on", self.host)
        if not isinstance(self.churn, Churn | None):
            raise _wrong("churn", "a Churn or None", self.churn)
        if not isinstance(self.compress, bool):
            raise _wrong("compress", "True or False", self.compress)
        self._check_limits()
        _check_faults(self.faults)

    def _check_limits(self) -> None:
        if self.rate_limit is not None:
            _check_number("rate_limit", self.rate_limit)
        if self.burst is not None:
            _check_number("burst", self.burst)
            if self.burst < 1 or self.rate_limit is None:
                raise ValueError(f"burst must be at least 1 and stand beside a rate_limit, not {self.burst!r}")
        if self.max_in_flight is not None:
            _check_integer("max_in_flight", self.max_in_flight, 1)


_CHOICES: dict[str, tuple[str, ...]] = {
    "cursor": get_args(Cursor),
    "bounds": get_args(Bounds),
    "nulls": get_args(Nulls),
    "unit": get_args(Unit),
    "embed_order": get_args(EmbedOrder),
    "retry_after": get_args(RetryAfter),
    "chat_count": get_args(ChatCount),
    "first_chat_filters": get_args(FirstChatFilters),
    "first_chat_orders": get_args(FirstChatOrders),
}


def _wrong(name: str, right: str, value: Any) -> ValueError:
    return ValueError(f"{name} must be {right}, not {value!r}")


def _check_integer(name: str, value: Any, low: int | None = None, high: int | None = None, more: str = "") -> None:
    right = isinstance(value, int) and not isinstance(value, bool)
    if not right or (low is not None and value < low) or (high is not None and value > high):
        bounds = "" if low is None else f" of at least {low}" if high is None else f" from {low} to {high}"
        raise ValueError(f"{name} must be an integer{bounds}{more}, not {value!r}")


def _check_number(name: str, value: Any, *, zero: bool = False) -> None:
    right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    if not right or (value == 0 and not zero):
        raise ValueError(f"{name} must be a finite number {'of at least' if zero else 'above'} 0, not {value!r}")


def _check_faults(faults: Any) -> None:
    if not isinstance(faults, Mapping):
        raise _wrong("faults", "a mapping of names of faults to probabilities", faults)
    for name, probability in faults.items():
        if name not in FAULTS:
            raise ValueError(f"faults knows {', '.join(FAULTS)}, not {name!r}")
        _check_number(f"faults[{name!r}]", probability, zero=True)
    if sum(faults.values()) > 1 + 1e-9:
        raise ValueError(f"faults must have probabilities that add up to at most 1, not {sum(faults.values())}")
