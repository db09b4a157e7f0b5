"""A model of what the server allows. It is pure: it holds no clock, and is told the time of each event.

The server's limit is unknown, and may be any of these: a token bucket (`rate` and `burst`; a leaky bucket is the
same), a window (`size` requests in any `period`: fixed windows and sliding logs), a number of requests in flight,
or none. On top of it the server may refuse a share of requests by chance. The model estimates which of these holds
from the send times of our own requests and from the answers, then keeps a little under it.

State
    The number of requests allowed in flight (`_window`), and the largest one that is not refused (`_settled`).
    `PaceEstimator`: what was sent and served when, and the fitted bucket or window.
    `BackgroundErrorFilter`: the share that is refused whatever the load.
    `AdvertisedQuota`: what the server's headers say is left.
    The overrun that is going on, and the canary that follows it.

Estimates
    Bucket. Each refusal is a moment at which the bucket was empty. The rate is the one at which a bucket, replayed
    over what was served, is as empty at every refusal as at any time: two overruns give rate and burst, to a
    percent if they are a hundred requests apart. One overrun may do: what is served among its refusals are tokens
    as they came. The longest part of the history that one bucket explains counts, back to the last four overruns,
    so a limit that changes is a history that becomes short.
    Window. If as many requests as were served before the first refusal preceded the second one, in the last
    seconds or in windows of some phase, or if nothing is served for a while after the first, it is a window. It is
    kept to by an even pace, which needs no phase, and never more than its size is sent in its length.
    In flight. A limit of requests in flight serves each request that follows an answer, and refuses each one more.
    So if as many are refused as the requests in flight became more, it is such a limit; unless fewer are refused.
    Chance. If most is served, and the refusals go on while the load falls, a share is refused whatever the load.

Decisions
    Start: few requests in flight; each answer to a full window adds a part of a place, so that the first overrun
    refuses few requests.
    An overrun: after a refusal nothing is sent until what was in flight is answered. If most of that was served,
    the window shrinks. Otherwise all requests pause, for as long as the server asked, or for a short time that
    doubles, or until a window of a usual length may have ended. Then one request (the canary) asks whether the
    server serves again. Refusals in an overrun or of a canary do not count as attempts of their calls, as long as
    the server served something in the last minute, and need no backoff of their own.
    After the first overrun, if the rate is in doubt: the rate grows until the limit is met a second time.
    After a refusal that no growth led to, the rate dips by a quarter for some seconds: if the limit is shared, the
    one who has more is refused more often, so that the shares become equal.
    Growth: after a hold, the rate or the window grows ever faster until the next refusal, or until more was served
    than the fitted bucket could have. Then, where a refusal costs a pause, the lowest rate that explains this is
    taken and growth goes on; else the rate doubles each second until a refusal. The hold is as long as a refusal
    costs, over the share by which the rate may be higher; it doubles each time a probe confirms the estimate, and
    keeps the number of refusals in a minute under what servers punish with a ban.
    A 503 of a gateway may be about load, or about its own request alone. What was known before the first such
    refusal is kept. It holds again when a request proves to be at fault, unless one that was so refused is served
    later: then load was the cause.
    Headers: where the server tells what is left, at most that much is sent until the reset, and nothing probes;
    where it tells how a bucket refills, that is the rate. A Retry-After is never undercut.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from .background_errors import BackgroundErrorFilter
from .pace import PaceEstimator
from .rate_headers import AdvertisedQuota, RateHeaderReader

# Requests in flight at the start: low enough to be no burst, high enough for the chats of one page.
_START = 8.0
# Places that an answer to a full window adds: below 20 in flight, above that, and while the rate is learnt.
_CAREFUL = 20.0
_CAREFUL_STEP = 1 / 3
_STEP = 1.0
_RAMP_STEP = 1 / 32
# Seconds before the first canary where the server asked for no pause; before any canary at most; and at most where
# the server may be down.
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 15.0
_SHORT_WAIT = 0.2
# Seconds without growth after a refusal at least: where the estimate is sharp, and where it is not. They double
# with each probe that confirms the estimate, four times at most. The share by which a rate may always be higher.
_HOLD = 3.0
_SHORT_HOLD = 1.0
_LEAST_DOUBT = 1 / 12
_MAX_CONFIRMED = 4
# Servers that ban do so at 20 refusals in a minute or more: growth waits after 17, and is slow after 8.
_MAX_REFUSED = 17
_BANNED = 20
_MANY = 8
_BAN_SECONDS = 60.0
# Share of what followed a refusal that was served, at least: where a limit of requests in flight refused, and
# where chance did. Four requests or fewer show no share.
_CROWD_SERVED = 0.4
_CHANCE_SERVED = 0.7
_FEW = 4
# Requests in flight at a refusal, as a share of those that were refused before: below the first something else
# than a limit of requests in flight refused, above the second such a limit did. By how much the refusals may
# differ from the refusals that such a limit makes.
_FEWER = 0.6
_AS_MANY = 0.85
_MORE = 1.5
# Growth of the rate after t seconds is 1 + linear · t + quadratic · t², and this much at most.
_LINEAR = 0.02
_QUADRATIC = 0.1
_MAX_GROWTH = 2.5
# The growth up to which the limit may be the same, and at which it is taken to be gone; how much faster the next
# growth is then; and how much slower it is where the estimate is not sharp.
_LITTLE, _GONE = 1.4, 2.0
_FASTER = 1.4
_GENTLY = 4.0
# Seconds since the last served answer for which refusals do not count as attempts: a minute's window, and a bit.
_UNSPENT = 65.0
# Seconds for which what was known before a doubtful refusal is kept: longer than the backoffs of one call.
_DOUBT_SECONDS = 60.0


class Refusal(Enum):
    """What a refusal is taken for, and what follows for its call."""

    #: A limit: all requests are held back, so the refusal is no attempt of its call, which needs no backoff.
    LIMIT = "limit"
    #: One that comes whatever the load: it counts as an attempt, but another one may go at once.
    CHANCE = "chance"
    #: A failure like any other: it counts as an attempt, and the call backs off.
    FAILURE = "failure"


@dataclass(slots=True)
class Ticket:
    """One admitted request.

    Attributes:
        sent_at: When it was sent.
        number: The number of the request in the order of sending.
        in_flight: Number of requests in flight at that moment, itself included.
        overruns: Number of overruns that were known then.
    """

    sent_at: float
    number: int
    in_flight: int
    overruns: int


@dataclass(slots=True)
class _Overrun:
    """A refusal, and what became of the requests that were in flight then."""

    first: Ticket
    pause: float
    fewest: int
    most: int
    last_sent_at: float
    served: int = 0
    refused: int = 1


class LimitModel:
    """What the server allows, as far as it is known. See the module's description.

    Args:
        ceiling: Largest number of requests in flight.

    Attributes:
        paused_until: The time before which nothing may go.
        refusals: Number of refused requests so far.
    """

    def __init__(self, ceiling: float) -> None:
        self.paused_until = -math.inf
        self.refusals = 0
        self._ceiling = ceiling
        self._pace = PaceEstimator()
        self._background = BackgroundErrorFilter()
        self._quota = AdvertisedQuota()
        self._headers = RateHeaderReader()
        self._window, self._settled = min(_START, ceiling), math.inf
        self._latency = 0.05
        self._sent = self._overruns = self._since = 0
        self._served_at = -math.inf
        # An overrun that is going on, and until when its answers are waited for.
        self._overrun: _Overrun | None = None
        self._drained_at = -math.inf
        self._is_canary_due = False
        self._wait, self._longest_wait = 0.0, _LONGEST_WAIT
        # The fewest in flight that were refused by the overrun before.
        self._crowd = math.inf
        # Growth: when it begins, how long it has lasted, how fast it is, and how often probes confirmed the limit.
        self._held_until = -math.inf
        self._grown_for, self._sent_at, self._speed, self._confirmed = 0.0, -math.inf, 1.0, 0
        # Whether a refusal costs a pause, or leads near to a ban.
        self._is_costly = False
        # The last refusals; the rate before a limit fell, and until when that counts.
        self._refused_at: deque[float] = deque(maxlen=_BANNED)
        self._peak, self._fell_until = math.inf, -math.inf
        self._untold: deque[float] = deque(maxlen=3)
        # What was known before refusals that may be about their own requests, and when the first of them came.
        self._before: LimitModel | None = None
        self._doubted_at = -math.inf

    @property
    def max_in_flight(self) -> int:
        """Number of requests that may be in flight."""
        grown = max(self._window, self._settled * self._growth) if self._settled < math.inf else self._window
        return int(min(grown, self._ceiling))

    @property
    def rate(self) -> float:
        """Requests per second in the long run; infinite where no limit is known."""
        return self._pace.long_run_rate

    # --- decisions ----------------------------------------------------------------------------------------

    def ready_at(self, now: float, in_flight: int) -> float:
        """When the next request may go: a time, or infinity if only an answer can tell."""
        if self._overrun is not None:
            if in_flight and now < self._drained_at:
                return self._drained_at
            overrun, self._overrun = self._overrun, None
            self._conclude(overrun, now)
        if in_flight >= self.max_in_flight or (self._is_canary_due and in_flight):
            return math.inf
        ready = max(self.paused_until, self._quota.ready_at(now, in_flight))
        if self._is_canary_due:
            return ready
        return max(ready, self._pace.ready_at(now, self._growth))

    def admit(self, now: float, in_flight: int) -> Ticket:
        """Note that a request is sent.

        Args:
            now: The time.
            in_flight: Number of requests in flight, this one included.
        """
        if now > self._held_until > -math.inf and not self._is_canary_due:
            self._grown_for += min(now - max(self._sent_at, self._held_until), 0.5)
            self._leave_limit_behind()
        self._sent_at = now
        self._pace.sent(now, self._growth, 2 * self._window / self._latency)
        self._sent += 1
        self._since += 1
        return Ticket(now, self._sent, in_flight, self._overruns)

    def served(self, ticket: Ticket, now: float, in_flight: int, headers: Mapping[str, str]) -> None:
        """Note that a request was served."""
        self._served_at = now
        self._read(ticket, now, headers, served=True)
        self._latency += 0.1 * (now - ticket.sent_at - self._latency)
        self._background.served()
        self._pace.served(ticket.sent_at)
        if self._overrun is not None:
            if ticket.number > self._overrun.first.number:
                self._overrun.served += 1
                self._overrun.most = max(self._overrun.most, ticket.in_flight)
                self._overrun.last_sent_at = ticket.sent_at
        elif self._is_canary_due:
            if ticket.overruns == self._overruns:
                self._resume(now)
        elif in_flight + 1 > self._window and self._window < min(self._settled, self._ceiling):
            is_careful = self._window < _CAREFUL and not self._background.share
            step = _RAMP_STEP if self._pace.is_ramping else _CAREFUL_STEP if is_careful else _STEP
            self._window = min(self._window + step, self._settled, self._ceiling)

    def refused(
        self,
        ticket: Ticket,
        now: float,
        pause: float,
        headers: Mapping[str, str],
        *,
        may_be_down: bool = False,
    ) -> Refusal:
        """Note that a request was refused. Returns what that is taken for.

        Args:
            ticket: The ticket of the request.
            now: The time.
            pause: Seconds for which the server asked to wait, or 0.
            headers: The headers of the answer.
            may_be_down: Whether the answer may also mean that the server is down.
        """
        self.refusals += 1
        self._longest_wait = _SHORT_WAIT if may_be_down else _LONGEST_WAIT
        self._refused_at.append(now)
        self._read(ticket, now, headers, served=False)
        self.paused_until = max(self.paused_until, now + pause)
        if may_be_down and pause:
            # Taken for a limit, a 503 of one operation would slow down all the others that are served.
            return Refusal.FAILURE
        self._doubt(now, is_load=not may_be_down)
        is_new = ticket.overruns == self._overruns
        is_canary = is_new and self._is_canary_due and self._overrun is None
        if is_new and not is_canary and self._overrun is None and self._is_by_chance(pause):
            return Refusal.FAILURE if may_be_down else Refusal.CHANCE
        self._pace.refused(ticket.sent_at, pause, is_canary=is_canary)
        if self._overrun is not None:
            self._join(self._overrun, ticket, pause)
        elif is_canary:
            self._pause(now, pause)
        elif is_new:
            self._overrun = _Overrun(ticket, pause, ticket.in_flight, ticket.in_flight, ticket.sent_at)
            self._drained_at = now + 1.5 * self._latency
        self._overruns += is_new
        is_down = may_be_down or now - self._served_at > _UNSPENT
        return Refusal.FAILURE if is_down else Refusal.LIMIT

    # --- doubtful refusals --------------------------------------------------------------------------------

    def _doubt(self, now: float, *, is_load: bool) -> None:
        """Keep what is known before a refusal that is about load, or about its own request."""
        if is_load:
            self._before = None
        elif self._before is None or now > self._doubted_at + _DOUBT_SECONDS:
            self._before = None  # else the copy would hold all earlier ones
            before = copy.copy(self)
            before._pace, before._background = self._pace.copy(), copy.copy(self._background)
            self._before, self._doubted_at = before, now

    def confirm_load(self) -> None:
        """Note that a request is served now that was refused before: what its refusal taught holds."""
        self._before = None

    def found_fault(self) -> None:
        """Note that a request is at fault itself: forget what its refusals, and others of that time, taught."""
        before, self._before = self._before, None
        if before is None:
            return
        self._pace.restore(before._pace)
        self._background = before._background
        self._window, self._settled = max(self._window, before._window), before._settled
        self._crowd, self._since, self._wait = before._crowd, before._since, before._wait
        self._overrun, self._is_canary_due = None, self._is_canary_due and before._is_canary_due
        self._held_until, self._grown_for = before._held_until, before._grown_for
        self._speed, self._confirmed = before._speed, before._confirmed
        self._peak, self._fell_until = before._peak, before._fell_until

    def _read(self, ticket: Ticket, now: float, headers: Mapping[str, str], *, served: bool) -> None:
        told = self._headers.read(headers, refused=not served)
        if told is not None:
            self._quota.update(told, now, number=ticket.number, sent_at=ticket.sent_at, served=served)
            if self._quota.rate:
                self._pace.tell(self._quota.rate, told.limit or 1.0)

    # --- overruns -----------------------------------------------------------------------------------------

    def _is_by_chance(self, pause: float) -> bool:
        """Whether a refusal is one of a background, which no load of ours explains."""
        is_grown = self._growth > 1.02 or self._pace.is_ramping
        load = min(self._pace.rate * self._latency, self._window)
        before = self._background.share
        if self._background.explains(load, is_grown=is_grown, is_limited=not self._pace.is_unknown):
            return not pause
        if self._background.share > before == 0 and not pause:
            self._settled = math.inf
            return True
        return False

    @staticmethod
    def _join(overrun: _Overrun, ticket: Ticket, pause: float) -> None:
        overrun.refused += 1
        overrun.last_sent_at = max(overrun.last_sent_at, ticket.sent_at)
        overrun.pause = max(overrun.pause, pause)
        overrun.fewest = min(overrun.fewest, ticket.in_flight)
        overrun.most = max(overrun.most, ticket.in_flight)

    def _conclude(self, overrun: _Overrun, now: float) -> None:
        """Decide what an overrun shows, once everything that was in flight is answered."""
        since, self._since = self._since, 0
        if not overrun.pause and self._background.may_explain(overrun.refused, overrun.served):
            self._pace.forgive()
            return
        if self._was_told(now):
            self._pause(now, overrun.pause)
        elif self._pace.is_guess and (window := self._narrower(overrun, since)):
            self._pace.forget()
            self._settled = self._window = max(1.0, float(int(window)))
            self._is_canary_due = overrun.pause > 0
            self._hold(now, overrun.pause, is_confirmed=self._growth > 1.02)
        else:
            self._pause(now, overrun.pause)
            self._slow_down(overrun, now)

    def _was_told(self, now: float) -> bool:
        """Whether the server's headers explain an overrun. Headers that come too late again and again do not."""
        if not self._quota.is_spent:
            return False
        self._untold.append(now)
        if len(self._untold) < 3 or self._untold[0] < now - 10:
            return True
        self._quota.distrust()
        return False

    def _narrower(self, overrun: _Overrun, since: int) -> float | None:
        """The window after an overrun that shows too many in flight, or chance; None if it shows a rate."""
        total = overrun.served + overrun.refused
        served = overrun.served / total
        # A limit in flight refuses each request beyond it, which takes no place, and serves each that follows an
        # answer. So it refuses as many as the requests in flight became more since the first refusal.
        # Chance refuses fewer as well, and is found in time if refusals cost no pause.
        is_fewer = overrun.fewest <= (1.0 if overrun.pause else _FEWER) * self._settled < math.inf
        more = overrun.most - overrun.fewest + 1
        is_crowd = more / _MORE - 2 <= overrun.refused <= more * _MORE + 2 and served >= _CROWD_SERVED
        is_crowd = is_crowd and overrun.fewest > 1 and not is_fewer and self._pace.is_unknown
        if is_crowd or overrun.fewest >= _AS_MANY * self._crowd:
            return min(self._window, 0.9 * overrun.fewest - 0.1)
        if total <= _FEW:
            # So few show little: what was served since the overrun before counts too.
            served = 1 - overrun.refused / max(since, total)
        if served >= _CHANCE_SERVED and self._pace.is_unknown and not overrun.pause:
            return 0.7 * self._window
        return None

    def _slow_down(self, overrun: _Overrun, now: float) -> None:
        """Fit the rate or the window anew."""
        self._crowd = overrun.fewest if overrun.fewest > 2 else math.inf
        is_grown = self._growth > 1.02
        before, was_sharp = math.inf if self._pace.is_ramping else self._pace.rate, self._pace.is_sharp
        self._pace.overrun(is_grown=is_grown)
        after = self._pace.rate
        if after < 0.7 * self._peak and was_sharp:
            self._fell_until = now + _BAN_SECONDS
        if is_grown or not self._peak < math.inf or after > self._peak:
            self._peak = after
        self._window = max(1.0, min(self._window, max(_START, 1.3 * overrun.served)))
        self._settled = math.inf
        is_confirmed = is_grown and before < math.inf and 0.95 < after / before < 1.05
        self._hold(now, overrun.pause, is_confirmed=is_confirmed)

    def _pause(self, now: float, asked: float) -> None:
        """Let nothing go for as long as the server asked, or ever longer; then send a canary."""
        self._is_canary_due = True
        until = self.paused_until  # for as long as the server asked since it refused, which may be a while ago
        if not asked:
            self._wait = min(max(2 * self._wait, _FIRST_WAIT), self._longest_wait)
            until = min(now + self._wait, self._pace.next_window(now + _FIRST_WAIT / 2))
        self.paused_until = max(self.paused_until, until)

    def _resume(self, now: float) -> None:
        """The canary was served."""
        self._is_canary_due, self._wait = False, 0.0
        if not self._pace.is_unknown:
            self._pace.resumed(now)
        self._held_until = max(self._held_until, now + _HOLD)

    # --- growth -------------------------------------------------------------------------------------------

    @property
    def _growth(self) -> float:
        is_sharp = self._pace.is_sharp or self._settled < math.inf
        # Whether more than a long window allows was sent shows only at its end.
        slow = max(1.0, self._pace.period / 3) if is_sharp else _GENTLY
        free = self._grown_for * self._speed / slow
        if free <= 0 or self._quota.is_known:
            return 1.0
        return min(1 + _LINEAR * free + _QUADRATIC * free**2, _MAX_GROWTH)

    def _leave_limit_behind(self) -> None:
        growth = self._growth
        if self._pace.is_refuted and self._is_costly and growth < _LITTLE and self._pace.refit():
            return
        if self._pace.is_refuted or (growth > _GONE and self._pace.is_unknown):
            self._speed *= _FASTER
            self._grown_for = 0.0
            self._pace.lift(growth)
            self._settled *= growth

    def _hold(self, now: float, pause: float, *, is_confirmed: bool) -> None:
        """Let nothing grow for a while after a refusal."""
        has_fallen = now < self._fell_until
        self._confirmed = min(self._confirmed + 1, _MAX_CONFIRMED) if is_confirmed and not has_fallen else 0
        is_sharp = self._pace.is_sharp or self._settled < math.inf
        doubt = _LEAST_DOUBT if self._settled < math.inf else max(self._pace.doubt, _LEAST_DOUBT)
        cost = max(0.0, pause - self._pace.refill) * min(1.0, self._pace.rate / self._peak)
        hold = max(_HOLD if is_sharp else _SHORT_HOLD, cost / doubt) * 2**self._confirmed
        recent = [moment for moment in self._refused_at if moment > now - _BAN_SECONDS]
        if _MAX_REFUSED <= len(recent) < _BANNED and not has_fallen:
            hold = max(hold, recent[-_MAX_REFUSED] + _BAN_SECONDS - now)
        self._is_costly = pause > 0 or len(recent) >= _MANY
        self._held_until = now + pause + hold
        self._grown_for, self._speed = 0.0, 1.0
