"""Rate limit headers in the forms that services send them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

# The names of the limit, of what remains and of the reset, by form: the IETF drafts (with a GitHub, Discord, Slack
# or Okta prefix), OpenAI's and Anthropic's. Of several reset headers the first that is sent counts.
_FORMS = (
    *(
        (f"{prefix}limit", f"{prefix}remaining", (f"{prefix}reset-after", f"{prefix}reset"))
        for prefix in ("x-ratelimit-", "x-rate-limit-", "ratelimit-")
    ),
    ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", ("x-ratelimit-reset-requests",)),
    (
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        ("anthropic-ratelimit-requests-reset",),
    ),
)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FIELD = re.compile(r"\b(limit|remaining|reset|r|t|q)\s*=\s*(\d+)")
# Answers that are searched for headers although none before had any: the first ones, then one in so many.
_SEARCHED, _EVERY = 16, 64
_EPOCH, _EPOCH_MS = 1e8, 1e11
# Seconds after which a request tries whether a bucket refills, and the longest reset that is waited for.
_TRY_AFTER, _LONGEST = 0.15, 120.0
# Seconds by which two resets may differ and be the same: told in whole seconds, or in fractions.
_WHOLE, _EXACT = 1.5, 0.2
# Seconds of a window up to which whole seconds tell nothing.
_VAGUE = 2.0


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """What an answer says of a limit.

    Attributes:
        remaining: Requests that are left.
        limit: Requests per window; None if that is not told.
        reset: Seconds until the window ends; None if that is not told.
    """

    remaining: float
    limit: float | None
    reset: float | None


class RateHeaderReader:
    """Reads the headers of answers; where a server sends none, most answers are not searched."""

    def __init__(self) -> None:
        self._answers = 0
        self._form: tuple[str, str, tuple[str, ...]] | None = None
        self._is_structured = False

    def read(self, headers: Mapping[str, str], *, refused: bool = False) -> RateHeaders | None:
        """What the headers say; None if they say nothing that can be understood."""
        self._answers += 1
        if self._form is None and not self._is_structured:
            if not refused and self._answers > _SEARCHED and self._answers % _EVERY:
                return None
            self._is_structured = "ratelimit" in headers
            self._form = next((form for form in _FORMS if form[1] in headers), None)
        if self._is_structured:
            return _structured(headers.get("ratelimit", ""), headers.get("ratelimit-policy", ""))
        return _plain(headers, self._form) if self._form else None


def _structured(value: str, policy: str) -> RateHeaders | None:
    """Read `"default";r=50;t=30`, or `limit=100, remaining=50, reset=5`; of several limits the tightest."""
    found: list[RateHeaders] = []
    parts = value.split(",") if ";" in value else [value]
    for part in parts:
        fields = {name[0] if name != "reset" else "t": float(number) for name, number in _FIELD.findall(part)}
        if "r" in fields:
            found.append(RateHeaders(fields["r"], fields.get("l"), fields.get("t")))
    told = min(found, key=lambda each: each.remaining, default=None)
    limits = [float(number) for name, number in _FIELD.findall(policy) if name == "q"]
    if told is None or told.limit is not None or len(limits) != 1:
        return told
    return RateHeaders(told.remaining, limits[0], told.reset)


def _plain(headers: Mapping[str, str], form: tuple[str, str, tuple[str, ...]]) -> RateHeaders | None:
    limit_name, remaining_name, reset_names = form
    remaining, limit = _number(headers.get(remaining_name)), _number(headers.get(limit_name))
    if remaining is None:
        return None
    reset = next((headers[name] for name in reset_names if name in headers), "")
    return RateHeaders(remaining, limit, _reset(reset.strip(), headers.get("date", "")))


def _number(text: str | None) -> float | None:
    found = re.match(r"\s*(\d{1,12}(?:\.\d+)?)", text or "")
    return float(found[1]) if found else None


def _reset(text: str, date: str) -> float | None:
    """Seconds until a reset that is told as seconds, as a duration, as an epoch time or as a timestamp."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        number = float(text)
        if number < _EPOCH:
            return number
        moment = number / 1000 if number > _EPOCH_MS else number
    elif parts := _PART.findall(text):
        if "".join(number + unit for number, unit in parts) == text:
            return sum(float(number) * _SECONDS[unit] for number, unit in parts)
        return None
    else:
        try:
            moment = datetime.fromisoformat(text).timestamp()
        except ValueError:
            return None
    try:
        # A moment is measured against the server's clock, not ours.
        return max(0.0, moment - parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


class AdvertisedQuota:
    """What the server says is left, less what is in flight.

    Nothing more goes once the rest is in flight, until the reset. Where a request is served although nothing
    was left and the reset had not come, the server refills all the time: it is a bucket, of which `remaining` and
    `reset` say too little, and which is learnt from refusals instead. So is a window of a second or two, if its
    reset is told in whole seconds.

    Attributes:
        rate: Requests per second at which a bucket refills, if its reset is told in fractions; or 0.
    """

    def __init__(self) -> None:
        self.rate = 0.0
        self._left = math.inf
        self._number = 0
        self._resets_at = self._spent_at = -math.inf
        self._refills: bool | None = None
        # Whether the window is so short that a reset in whole seconds says nothing.
        self._is_vague = False

    @property
    def is_known(self) -> bool:
        """Whether the server tells what is left, or the rate."""
        return self.rate > 0 or (self._left < math.inf and not self._refills and not self._is_vague)

    @property
    def is_spent(self) -> bool:
        """Whether the last answer said that nothing is left."""
        return self._left == 0 and not self._refills

    def distrust(self) -> None:
        """What is left was told too late, again and again: it is learnt from refusals instead."""
        self._refills, self.rate = True, 0.0

    def update(self, told: RateHeaders, now: float, *, number: int, sent_at: float, served: bool) -> None:
        """Note what the answer to a request says.

        Args:
            told: The headers of the answer.
            now: The time.
            number: The number of the request, in the order of sending.
            sent_at: When the request was sent.
            served: Whether it was served.
        """
        if told.limit == 0:
            return
        if self._left == 0 and sent_at > self._spent_at and now < self._resets_at - 0.1:
            self._refills = self._refills or served
        is_whole = told.reset is None or told.reset == int(told.reset)
        if self._refills:
            if not is_whole and told.reset and told.limit and told.limit > told.remaining:
                self.rate = (told.limit - told.remaining) / told.reset
            return
        resets_at = now + told.reset if told.reset is not None else max(now, self._resets_at)
        later = resets_at - self._resets_at
        if now < self._resets_at and later < (_WHOLE if is_whole else _EXACT):
            # Answers come in any order: of one window the least that was told counts, and the earliest reset.
            if later > -(_WHOLE if is_whole else _EXACT):
                self._left = min(self._left, told.remaining)
                self._resets_at += min(later, 0.0)
        elif number > self._number:
            self._number, self._left, self._resets_at = number, told.remaining, resets_at
            self._is_vague = is_whole and told.reset is not None and told.reset <= _VAGUE
        if self._left == 0:
            self._spent_at = now
            if self._is_vague:
                self._left = math.inf

    def ready_at(self, now: float, in_flight: int) -> float:
        """When the next request may go, as far as the server told; infinity if only an answer can tell."""
        if self._refills or in_flight < self._left:
            return now
        if in_flight:
            return math.inf
        if self._refills is None and now < self._resets_at:
            # One request tries whether the reset is really waited for.
            return max(now, min(self._spent_at + _TRY_AFTER, self._resets_at))
        return self._resets_at if now < self._resets_at <= now + _LONGEST else now
