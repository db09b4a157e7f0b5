"""The pace at which requests may go: a token bucket or a window, fitted to what was served and refused."""

from __future__ import annotations

import math
from bisect import bisect_right

from .replay import first_burst, fit_bucket, fit_window, lowest_rate, round_period

# Sends closer than so many seconds are counted as one; so many of them, of so many seconds, are remembered.
_BIN, _MOST_BINS, _REMEMBERED = 0.002, 1000, 60.0
# Share of the fitted rate that is used; each refusal that no growth led to takes more off it, down to the least.
_SAFETY, _SAFETY_STEP, _LEAST_SAFETY = 0.985, 0.01, 0.8
# Requests per second after the first refusal, and the factor by which that grows in a second.
_RAMP_FROM, _RAMP = 10.0, 3.0
# Seconds for which a canary is refused after the limit was met, where it is a window.
_DRY = 0.3
# Refusals that are remembered, and refusals in a row, which no growth led to, that put the fit in question.
_MOST_MARKS, _DOUBTFUL = 12, 3
# By so much of itself, and so many seconds, a window is taken to be longer than it seems.
_PERIOD_MARGIN, _PERIOD_SECONDS = 1.01, 0.002


class PaceEstimator:
    """Estimates a bucket (`rate`, `burst`) or a window (`size`, `period`), and says when the next request may go.

    Attributes:
        rate: Requests per second of the bucket; infinite if none is known.
        period: Seconds of the window; 0 if none is known.
        is_ramping: Whether the rate grows after the first refusal, to meet the limit a second time.
    """

    def __init__(self) -> None:
        self.rate, self.period, self.is_ramping = math.inf, 0.0, False
        self._burst = self._size = math.inf
        self._safety = _SAFETY
        # The bucket: its tokens, and when they were counted.
        self._level, self._at = 0.0, 0.0
        # The window: the sends that it counts, how many more than its size are tried, and since when they were.
        self._log: list[float] = []
        self._extra, self._tried_at = 2, math.inf
        # The history: when requests were sent that were served, how many, and when requests were refused.
        self._times: list[float] = []
        self._counts: list[int] = []
        self._marks: list[float] = []
        self._resumed_at = self._dry_at = -math.inf
        self._was_dry = self._is_lifted = False
        self._unexpected = 0
        self._most, self._trickle = math.inf, 0.0

    @property
    def is_window(self) -> bool:
        """Whether the limit is a window."""
        return self._size < math.inf

    @property
    def is_unknown(self) -> bool:
        """Whether no limit is known."""
        return self.rate == math.inf and not self.is_window

    @property
    def is_guess(self) -> bool:
        """Whether a refusal may still show a limit of another kind."""
        return self.is_unknown or self.is_ramping

    @property
    def long_run_rate(self) -> float:
        """Requests per second in the long run; infinite if no limit is known."""
        return self._size / self.period if self.is_window else self.rate * self._safety

    @property
    def refill(self) -> float:
        """Seconds of pause that the burst makes up for."""
        return self._burst / self.rate if self.rate < math.inf and self._burst < math.inf else 0.0

    def forget(self) -> None:
        """Note that there is no rate: the limit is of another kind."""
        self.rate, self.is_ramping = math.inf, False

    def ready_at(self, now: float, growth: float) -> float:
        """When the next request may go.

        Args:
            now: The time.
            growth: The factor by which the limit is exceeded on purpose.
        """
        if self.is_window:
            most = max(1, int(self._size + (self._extra if growth > 1.02 else 0)))
            if len(self._log) < most:
                return now
            return self._log[-most] + self.period * _PERIOD_MARGIN + _PERIOD_SECONDS
        if self.rate == math.inf:
            return now
        level = self._refilled(now, growth)
        return now if level >= 1 - 1e-9 else now + (1 - level) / (self.rate * self._safety * growth)

    def sent(self, now: float, growth: float) -> None:
        """Note that a request is sent."""
        if self.is_window:
            self._count(now, growth)
        elif self.rate < math.inf:
            if self.is_ramping and self.rate < self._most:
                self.rate *= _RAMP ** min(now - self._at, 0.2)
            self._level, self._at = self._refilled(now, growth) - 1, now

    def served(self, sent_at: float) -> None:
        """Note that a request that was sent then was served."""
        if self._times and sent_at < self._times[-1] + _BIN:
            self._counts[-1] += 1
            return
        self._times.append(sent_at)
        self._counts.append(1)
        if len(self._times) > 2 * _MOST_BINS:
            del self._times[:_MOST_BINS], self._counts[:_MOST_BINS]

    def not_counted(self, sent_at: float) -> None:
        """Note that a request was refused, so that it took nothing from the window."""
        if self.is_window and sent_at in self._log:
            self._log.remove(sent_at)

    def still_empty(self, sent_at: float) -> None:
        """Note that a canary was refused."""
        self._dry_at = sent_at
        self._was_dry = self._was_dry or (bool(self._marks) and sent_at > self._marks[0] + _DRY)
        self._mark(sent_at)

    def lift(self, growth: float) -> None:
        """Note that so much more was served than the limit allows: it is gone."""
        self.rate *= growth
        self._marks.clear()
        self._is_lifted = True

    def refused(self, sent_at: float, served: int, *, trickle: float, most: float, is_grown: bool) -> None:
        """Note an overrun, and correct the estimate.

        Args:
            sent_at: When the first request of the overrun was sent.
            served: Number of requests that were sent later, and served.
            trickle: Their rate.
            most: Requests per second at which the rate stops growing.
            is_grown: Whether growth of ours led to the overrun.
        """
        is_first = self.is_ramping
        last = self._marks[-1] if self._marks else -math.inf
        self._most, self._trickle = most, trickle if served > 2 else 0.0
        self._level, self._at, self._dry_at = -served - 0.5, sent_at, -math.inf
        self._mark(sent_at)
        if self.is_unknown or not self._times:
            return
        if self.is_window:
            self._narrow(sent_at, is_grown=is_grown)
        elif is_first:
            self._fit()
        elif self._is_lifted:
            self.rate = max(0.5 * self.rate, 0.9 * self._rate_since(sent_at - 0.7, 0.7))
        else:
            self._refine(last, sent_at, is_grown=is_grown)
        self._is_lifted = False
        self._trim(sent_at - _REMEMBERED)

    def resume(self, now: float) -> None:
        """Note that the canary was served."""
        self._resumed_at = now
        if not self._times or not self._marks:
            return
        if self.is_window:
            if self._log and self._dry_at > -math.inf:
                begun = self._log[-int(min(self._size, len(self._log)))]
                self.period = max(self.period, round_period(self._dry_at - begun, now - begun))
        elif self.rate == math.inf:
            self._guess(now)

    def _guess(self, now: float) -> None:
        """Guess the limit from its first overrun: a window if nothing was served for long, or else a bucket."""
        begun = self._times[0]
        if self._dry_at > self._marks[0] + _DRY:
            # About as many as were served are served again: a window.
            size = sum(count for time, count in self._served_since(begun) if time <= self._dry_at)
            self._be_window(size, round_period(self._dry_at - begun, now - begun), since=self._dry_at)
            return
        span = now - begun
        before = 0.5 * sum(self._counts) / span if span > 0.9 else 0.0
        self.rate, self.is_ramping = max(_RAMP_FROM, before, 0.5 * self._trickle), True
        self._level, self._at = 0.0, now

    # --- a window -----------------------------------------------------------------------------------------

    def _be_window(self, size: float, period: float, *, since: float) -> None:
        self._size, self.period = float(max(size, 1)), period
        self.rate, self.is_ramping = math.inf, False
        self._log = [time for time, count in self._served_since(since) for _ in range(count)]

    def _count(self, now: float, growth: float) -> None:
        """Count a send; a few more than the window allows are tried at first, and added if they are served."""
        log = self._log
        log.append(now)
        if self._tried_at < now - 0.25 * self.period:
            self._size, self._extra, self._tried_at = self._size + self._extra, 2 * self._extra, math.inf
        elif growth > 1.02 and self._tried_at == math.inf:
            most = int(self._size + self._extra)
            if len(log) >= most and log[-most] > now - self.period:
                self._tried_at = now
        if len(log) > 4 * self._size + 100:
            del log[: len(log) // 2]

    def _narrow(self, sent_at: float, *, is_grown: bool) -> None:
        """Take a little off the window; one that is refused early again and again is none."""
        self._extra, self._tried_at = 2, math.inf
        self._unexpected = 0 if is_grown else self._unexpected + 1
        if is_grown:
            return
        count = sum(sent_at - self.period < time < sent_at for time in self._log)
        if self._unexpected >= _DOUBTFUL and count < 0.7 * self._size:
            self._fit()
        else:
            self._size = max(1.0, min(self._size - 1, 0.98 * self._size))

    # --- a bucket -----------------------------------------------------------------------------------------

    def _refilled(self, now: float, growth: float) -> float:
        rate = self.rate * self._safety * growth
        most = max(1.05, 0.8 * self._burst - 1) if self._burst < math.inf else 1.0
        return min(most, self._level + (now - self._at) * rate)

    def _refine(self, last: float, sent_at: float, *, is_grown: bool) -> None:
        """Correct the rate by what was served since the last refusal."""
        history = [(last, 0), *self._served_since(last)]
        count = sum(served for _, served in history)
        rate = lowest_rate(history, self._burst) if count > 2 else self.rate
        if is_grown:
            self._unexpected = 0
            self._safety = min(_SAFETY, self._safety + 2 * _SAFETY_STEP)
            self.rate = max(rate, 0.5 * self.rate)
            return
        self._unexpected += 1
        resumed = sum(served for _, served in self._served_since(self._resumed_at))
        if resumed < 0.85 * self._burst and self._burst > 1.5:
            self._burst = max(1.0, 0.8 * resumed)
            return
        bound = rate * (1 + 2 / max(count, 1))
        if self._unexpected >= _DOUBTFUL:
            if self._is_rather_window():
                return
            bound = min(bound, self._rate_in_doubt())
        if bound < self.rate * self._safety:
            self.rate = max(bound, 0.3 * self.rate)
        else:
            step = _SAFETY_STEP * 2 ** min(self._unexpected, 4)
            self._safety = max(self._safety - step, _LEAST_SAFETY)

    def _is_rather_window(self) -> bool:
        """Whether the last refusals, which the bucket does not explain, show a window; which is then taken."""
        if self._unexpected > _DOUBTFUL or len(self._marks) <= _DOUBTFUL:
            return False
        self._marks = self._marks[-_DOUBTFUL - 1 :]
        self._trim(self._marks[0])
        self._was_dry, before = True, (self.rate, self._burst)
        self._fit()
        if not self.is_window:
            self.rate, self._burst = before
        return self.is_window

    def _rate_in_doubt(self) -> float:
        """The rate that explains the refusals in a row which no growth led to."""
        marks = self._marks[-min(self._unexpected, len(self._marks)) :]
        history = sorted([*((time, 0) for time in marks), *self._served_since(marks[0])])
        served = sum(count for _, count in history)
        return lowest_rate(history, self._burst) * (1 + 1 / max(served, 1))

    # --- the fit ------------------------------------------------------------------------------------------

    def _fit(self) -> None:
        """Fit a bucket and a window to the history, and take the better one."""
        history = sorted([*self._served_since(-math.inf), *((time, 0) for time in self._marks)])
        bucket = fit_bucket(history)
        if self._was_dry or self._is_lifted or len(self._marks) == 2:
            window = fit_window(history)
            is_likely = window.error < bucket.error + 0.3 * first_burst(history)
            if is_likely and (self._unexpected or window.size > bucket.rate * window.period):
                self._be_window(window.size, window.period, since=-math.inf)
                return
        self._size, self.period, self.is_ramping = math.inf, 0.0, False
        self.rate, self._burst = max(bucket.rate, self._proven(bucket.burst)), bucket.burst

    def _proven(self, burst: float) -> float:
        """The rate of what was served in the last seconds beyond a burst, which the limit cannot be below."""
        end = self._marks[-1]
        return max(
            (self._rate_since(end - span, span) - burst / span for span in (1.0, 1.5, 2.0, 3.0)),
            default=0.0,
        )

    def _rate_since(self, since: float, span: float) -> float:
        return sum(count for _, count in self._served_since(since)) / span

    def _served_since(self, since: float) -> list[tuple[float, int]]:
        start = bisect_right(self._times, since)
        return list(zip(self._times[start:], self._counts[start:], strict=True))

    def _mark(self, sent_at: float) -> None:
        self._marks.append(sent_at)
        del self._marks[:-_MOST_MARKS]

    def _trim(self, before: float) -> None:
        start = bisect_right(self._times, before)
        del self._times[:start], self._counts[:start]
