"""The pace at which requests may go: a token bucket or a window, fitted to what was served and refused."""

from __future__ import annotations

import copy
import math
from collections import deque

from .replay import PERIODS, Bucket, Entry, Window, burst_at, fit_bucket, fit_window, fixed_size, merge

# Sends within so many seconds are one entry of the history, unless a refusal lies between them; the most entries.
_BIN, _MOST_ENTRIES = 0.002, 4000
# Share of the fitted rate that is used.
_SAFETY = 0.985
# Requests per second after the first refusal at least; the factors by which that grows in a second, and by which a
# rate grows that turned out to be too low.
_RAMP_FROM, _RAMP, _RAMP_AGAIN = 10.0, 4.0, 2.0
# A rate is known if the lowest and the highest that explain the history differ by less than the first factor, and
# known well below the second.
_KNOWN, _SHARP = 2.0, 1.1
# Share of the highest rate below which no rate is taken that a refusal leaves open.
_LEAST = 0.3
# Requests below which a part of the history tells nothing.
_ENOUGH = 10
# Overruns that one bucket has to explain at most, and how many requests each may contradict it by.
_MOST_OVERRUNS, _ERROR = 4, 1.5
# Requests, and a share of the burst or of a window, that have to be served beyond the fit to refute it: a window
# that begins at a fixed moment serves more than its size in its length.
_BEYOND, _BEYOND_BURST, _BEYOND_WINDOW = 3.0, 0.1, 0.4
# By how much longer than a window it takes to end surely.
_ENDS = 1.005
# Seconds for which nothing may be served after a refusal by a bucket.
_DRY = 0.25
# Twice the seconds of the shortest window that is common.
_TWO_COMMON = 2.0
# Shares of a window that are used at a refusal by it: at least, at most, and by an even pace.
_SAME_WINDOW, _EVEN = (0.5, 1.2), 0.96
# Share of the burst that is used.
_BURST_USED = 0.7
# After a refusal that no growth led to: the share of the rate that is used at first, and seconds until all is.
_DIP, _DIP_SECONDS = 0.75, 3.0


class PaceEstimator:
    """Estimates a token bucket (`rate`, `burst`), and says when the next request may go.

    Attributes:
        rate: Requests per second of the bucket; infinite if none is known.
        burst: Largest number of tokens of the bucket, or the size of the window; infinite if it is not known.
        period: Seconds of the window that the rate was taken from; 0 if it was taken from a bucket.
        is_ramping: Whether the rate grows after the first overrun, to meet the limit a second time.
        is_sharp: Whether the history leaves little doubt about the rate.
    """

    def __init__(self) -> None:
        self.rate = self.burst = self._highest = math.inf
        self.is_ramping = self.is_sharp = self._is_trimmed = False
        # Seconds below which no window is looked for; until when nothing was served after the last overrun, and
        # when something was again.
        self.period = self._shortest = 0.0
        self._dry_at = self._resumed_at = -math.inf
        self._burst_used, self._ramp = _BURST_USED, _RAMP
        # What was sent since the last pause, and the tokens that were there then.
        self._sent, self._surplus = 0, 0.0
        # Our own bucket: its tokens, and when they were counted.
        self._level, self._at = 0.0, 0.0
        self._dipped_at = -math.inf
        # When the last requests were sent, while a window is known.
        self._log: deque[float] = deque(maxlen=_MOST_ENTRIES)
        # The history, and how many overruns there were.
        self._served: list[Entry] = []
        self._refused: list[Entry] = []
        self._overruns = 0
        # The fitted bucket, counted by what was served.
        self._proof, self._proof_at = 0.0, -math.inf

    @property
    def is_unknown(self) -> bool:
        """Whether no limit is known."""
        return self.rate == math.inf

    @property
    def is_guess(self) -> bool:
        """Whether a refusal may still show a limit of another kind."""
        return self.is_unknown or (self.is_ramping and self._ramp == _RAMP)

    @property
    def long_run_rate(self) -> float:
        """Requests per second in the long run; infinite if no limit is known."""
        return self.rate * _SAFETY

    @property
    def refill(self) -> float:
        """Seconds of pause that the burst makes up for."""
        return self._usable / self.rate if self.rate < math.inf else 0.0

    @property
    def doubt(self) -> float:
        """By how much the rate may be higher than what is used of it, as a share of that."""
        return min(1.0, self._highest / self.long_run_rate - 1) if self.rate < math.inf else 1.0

    @property
    def is_refuted(self) -> bool:
        """Whether more was served than the fitted bucket allows."""
        share = _BEYOND_WINDOW if self.period else _BEYOND_BURST
        return not self.is_ramping and self._proof < -_BEYOND - share * self.burst

    def copy(self) -> PaceEstimator:
        """An estimator that knows as much, and learns by itself from now on."""
        made = copy.copy(self)
        made._served, made._refused = self._served.copy(), self._refused.copy()
        made._log = self._log.copy()
        return made

    def restore(self, before: PaceEstimator) -> None:
        """Know again what a copy knew, and what was served since then."""
        since = before._served[-1].first if before._served else -math.inf
        served = [*before._served, *(entry for entry in self._served if entry.first > since)]
        vars(self).update(vars(before))
        self._served = served

    def forget(self) -> None:
        """Note that there is no rate: the limit is of another kind."""
        self.rate, self.is_ramping, self.period, self._proof = math.inf, False, 0.0, 0.0
        self._served.clear()
        self._refused.clear()

    # --- our own bucket -----------------------------------------------------------------------------------

    def ready_at(self, now: float, growth: float) -> float:
        """When the next request may go.

        Args:
            now: The time.
            growth: The factor by which the limit is exceeded on purpose.
        """
        if self.rate == math.inf:
            return now
        level = self._refilled(now, growth)
        ready = now if level >= 1 - 1e-9 else now + (1 - level) / self._used_rate(now, growth)
        size = int(self.burst * _SAFETY * growth) if self.period else math.inf
        # A sliding log is full for longer where a pause of ours ends in it, whatever the pace.
        return ready if size > len(self._log) else max(ready, self._log[-max(int(size), 1)] + self.period)

    def sent(self, now: float, growth: float, most: float) -> None:
        """Note that a request is sent.

        Args:
            now: The time.
            growth: The factor by which the limit is exceeded on purpose.
            most: Requests per second beyond which the rate does not grow by itself.
        """
        if self.rate < math.inf:
            if self.is_ramping and self.rate < most:
                self.rate *= self._ramp ** min(now - self._at, 0.2)
            self._level, self._at = self._refilled(now, growth) - 1, now
            self._sent += 1
            if self.period:
                self._log.append(now)

    def _refilled(self, now: float, growth: float) -> float:
        # A timer that is late costs no token, unless the bucket holds but one.
        most = max(1.05 if self.burst > 2.5 else 1.0, self._usable)
        return min(most, self._level + (now - self._at) * self._used_rate(now, growth))

    def _used_rate(self, now: float, growth: float) -> float:
        dip = min(1.0, _DIP + (1 - _DIP) * (now - self._dipped_at) / _DIP_SECONDS)
        return self.rate * _SAFETY * growth * dip

    @property
    def _usable(self) -> float:
        """Tokens of the burst that are used after a pause."""
        return 0.0 if self.is_ramping or self.period else max(0.0, self._burst_used * self.burst - 1)

    def next_window(self, now: float) -> float:
        """When the next window of a usual length may end: it began after the last pause, before the refusal."""
        starts = (self._resumed_at, self._last_overrun) if self._refused else ()
        return min(
            (end for start in starts for period in PERIODS if (end := start + _ENDS * period) > now),
            default=math.inf,
        )

    @property
    def _last_overrun(self) -> float:
        """When the first request of the last overrun was sent that was refused."""
        return next(entry.first for entry in self._refused if entry.overrun == self._refused[-1].overrun)

    # --- what is known ------------------------------------------------------------------------------------

    def served(self, sent_at: float) -> None:
        """Note that a request that was sent then was served."""
        if self.rate < math.inf:
            self._proof = min(self.burst, self._proof + max(0.0, sent_at - self._proof_at) * self.rate) - 1
            self._proof_at = max(sent_at, self._proof_at)
        if not self._served:
            self._resumed_at = sent_at
        last = self._served[-1] if self._served else None
        if last is None or sent_at > last.first + _BIN or (self._refused and last.last < self._refused[-1].first):
            self._served.append(Entry(sent_at, sent_at, 1))
            if len(self._served) > _MOST_ENTRIES:
                half = len(self._served) // 2
                self._served[:half] = merge(self._served[:half])
        else:
            self._served[-1] = Entry(last.first, max(last.last, sent_at), last.requests + 1)

    def refused(self, sent_at: float, pause: float, *, is_canary: bool) -> None:
        """Note that a request was refused.

        Args:
            sent_at: When it was sent.
            pause: Seconds for which the server asked to wait, or 0.
            is_canary: Whether it was a canary, which belongs to the overrun before.
        """
        if self._overruns or not is_canary:
            self._refused.append(Entry(sent_at, sent_at, 0, self._overruns - is_canary))
        # Waits are rounded up to whole seconds, and at least one.
        self._dry_at = max(self._dry_at, sent_at + pause - 2 if pause > 2 else sent_at if is_canary else 0.0)
        self._proof, self._proof_at = 0.0, max(sent_at, self._proof_at)

    def tell(self, rate: float, burst: float) -> None:
        """Note what the server says of its bucket."""
        self.rate, self.burst, self.is_ramping, self.is_sharp, self.period = rate, burst, False, True, 0.0

    def forgive(self) -> None:
        """Note that the refusals since the last overrun are none by a limit."""
        self._refused = [entry for entry in self._refused if entry.overrun < self._overruns]

    def lift(self, growth: float) -> None:
        """Note that more was served than the estimate allows: the rate grows until it meets a limit again."""
        if self.rate < math.inf:
            self.rate *= growth
            self.is_ramping, self._ramp, self.period = True, _RAMP_AGAIN, 0.0

    def refit(self) -> bool:
        """Take the lowest rate that explains what was served beyond the estimate; False if none explains it."""
        if self.period or not self._refused:
            return False
        history = self._history(self._starts()[0])
        bucket = fit_bucket(history)
        if bucket.error > _ERROR * self._overruns or bucket.lowest < self.rate or bucket.lowest > 1.5 * self.rate:
            return False
        self.rate, self._highest = bucket.lowest, bucket.highest
        self.is_sharp = bucket.highest <= _SHARP * bucket.lowest
        self.burst = burst_at(history, self.rate)
        self._proof, self._proof_at = 0.0, self._at
        return True

    def overrun(self, *, is_grown: bool) -> None:
        """Correct the estimate after an overrun.

        Args:
            is_grown: Whether growth of ours led to the overrun.
        """
        last = self._refused[-1].first
        self._level, self._at = min(0.0, self._level), max(last, self._at)
        is_unexpected = self.rate < math.inf and not self.is_ramping and not is_grown
        if is_unexpected:
            self._dipped_at = last
            if self._sent < 1.5 * self._surplus + 2:
                # What was refused was the burst.
                self._burst_used /= 2
                self.burst = max(1.0, min(self.burst, self._sent - 1.0))
        self._fit(is_unexpected=is_unexpected)
        self._overruns += 1
        self._trim()

    def resumed(self, now: float) -> None:
        """Note that the canary was served."""
        if self._refused and self._dry_at > self._refused[0].first + _DRY:
            # What is used up at a refusal began before it. A sliding counter refuses for up to twice its length,
            # and those of a second are common.
            dry = self._dry_at - self._last_overrun
            self._shortest = max(self._shortest, dry / 2 if dry < _TWO_COMMON else dry)
            if self._overruns == 1:
                window = fit_window(self._history(-1), self._shortest, 1)
                if window is not None:
                    self._be_window(window)
        self._resumed_at, self._sent, self._surplus = now, 0, self._refilled(now, 1.0)

    def _fit(self, *, is_unexpected: bool) -> None:
        """Take what explains the longest part of the history, from the beginning or one of the last overruns."""
        if self.period and self._is_same_window(is_unexpected=is_unexpected):
            return
        fits: list[tuple[Bucket, list[Entry]]] = []
        for first in self._starts():
            history = self._history(first)
            if fits and sum(entry.requests for entry in history) < _ENOUGH:
                break
            bucket = fit_bucket(history)
            is_explained = bucket.error <= _ERROR * (self._overruns - first)
            # Later on an even pace looks like a window of any length.
            window = None
            if first < 0 < self._overruns:
                window = fit_window(history, self._shortest, other_rate=bucket.rate if is_explained else 0.0)
            if window is not None and not (is_explained and window.size < bucket.rate * window.period):
                self._be_window(window)
                return
            fits.append((bucket, history))
            if is_explained:
                break
        self._be_bucket(*fits[-1])

    def _starts(self) -> list[int]:
        """The numbers of the overruns from which on the history may be explained; -1 for the beginning."""
        numbers = sorted({entry.overrun for entry in self._refused} - {self._overruns})
        return numbers if self._is_trimmed and numbers else [-1, *numbers]

    def _is_same_window(self, *, is_unexpected: bool) -> bool:
        """Whether the window explains the last overrun too; its size is corrected by it."""
        last = self._last_overrun
        count = sum(entry.requests for entry in self._served if last - self.period < entry.first < last)
        size = fixed_size(self._history(self._starts()[0]), self.period)
        if size is not None:
            self._be_window(Window(size, self.period))
            return True
        share = count / self.burst
        if not _SAME_WINDOW[0] < share < _SAME_WINDOW[1] or (is_unexpected and share > _EVEN):
            # Too little or too much was sent for it, or so evenly that it explains nothing.
            self._shortest, self.period = math.inf, 0.0
            return False
        self._be_window(Window(min(count, int(self.burst)), self.period))
        return True

    def _be_bucket(self, bucket: Bucket, history: list[Entry]) -> None:
        is_known = bucket.highest <= _KNOWN * bucket.lowest
        self.is_sharp = bucket.highest <= _SHARP * bucket.lowest
        self.is_ramping = not self._overruns and not is_known
        if self.is_ramping:
            self.rate = max(bucket.lowest, _RAMP_FROM)
        elif is_known:
            self.rate = bucket.rate
        else:
            self.rate = math.sqrt(max(bucket.lowest, _LEAST * bucket.highest) * bucket.highest)
        self.period, self._highest, self.burst = 0.0, bucket.highest, burst_at(history, self.rate)

    def _be_window(self, window: Window) -> None:
        """Keep to a window by an even pace, which leaves nothing of it unused."""
        self.rate, self.burst = window.size / window.period, float(window.size)
        self.is_ramping, self.is_sharp, self._highest = False, True, self.rate
        self.period = window.period
        if not self._log:
            self._log.extend(entry.last for entry in self._served for _ in range(entry.requests))

    def _history(self, overrun: int) -> list[Entry]:
        """What was served and refused since an overrun; or from the beginning, if its number is -1."""
        refused = [entry for entry in self._refused if entry.overrun >= overrun]
        start = -math.inf if overrun < 0 else refused[0].first
        return sorted([*refused, *(entry for entry in self._served if entry.first >= start)])

    def _trim(self) -> None:
        """Forget what came before the last overruns."""
        kept = [entry for entry in self._refused if entry.overrun >= self._overruns - _MOST_OVERRUNS]
        if len(kept) < len(self._refused):
            self._is_trimmed = True
            self._served = [entry for entry in self._served if entry.first >= kept[0].first]
            self._refused = kept
