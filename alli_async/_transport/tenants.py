"""Tenants: what is learnt about one key at one server."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from weakref import WeakValueDictionary

from ..config import ClientConfig
from .call import Call
from .limiter import RateLimiter
from .outage import Outage
from .retry import RetryQuota
from .server_clock import ServerClock

# An app that makes a client for each of its customers' keys must not grow for ever; a tenant takes about 3 KB.
_REMEMBERED = 1000


class Tenant:
    """What all clients with the same base URL and key share, within one family of `with_options` clients.

    Attributes:
        limiter: Holds the requests of this key to what the server takes.
        quota: The retry quota.
        outage: Whether the server serves anything.
        clock: The server's clock.
        queued: The calls with a deadline that wait for the limiter: a pause that begins may be too long for them.
        units_per_second: Units of the server's timestamps in one second, 1 (seconds) or 1000 (milliseconds); None
            until they are learnt.
        takes_whole_numbers: Whether the server is known to refuse fractions in filters on times.
        has_bad_rows: Whether the lists are known to hold a row that makes every page with it fail.
    """

    __slots__ = (
        "__weakref__",
        "clock",
        "has_bad_rows",
        "limiter",
        "max_concurrency",
        "outage",
        "queued",
        "quota",
        "rate_limit",
        "takes_whole_numbers",
        "units_per_second",
    )

    def __init__(self, config: ClientConfig) -> None:
        self.max_concurrency, self.rate_limit = config.max_concurrency, config.rate_limit
        self.limiter = RateLimiter(config.max_concurrency, config.rate_limit)
        self.quota = RetryQuota(config.retry.quota)
        self.outage = Outage(on_begin=self.limiter.interrupt, on_fault=self.limiter.found_fault)
        self.clock = ServerClock()
        self.queued: set[Call] = set()
        self.units_per_second: float | None = None
        self.takes_whole_numbers = False
        self.has_bad_rows = False

    def forget_in_flight(self) -> None:
        """Forget the calls of an event loop that is closed; what is known of the server stays."""
        self.outage.forget_in_flight()
        self.queued.clear()

    def limiter_for(self, max_concurrency: int, rate_limit: float | None) -> RateLimiter:
        """The limiter for a client with these limits: that of the tenant, or one inside it for other limits."""
        own = self.max_concurrency, self.rate_limit
        if own == (max_concurrency, rate_limit):
            return self.limiter
        rate = None if rate_limit == self.rate_limit else rate_limit
        return RateLimiter(max_concurrency, rate, parent=self.limiter)


class Tenants:
    """The tenants of a connection: those in use, and the latest others, whose pauses and limits still hold."""

    def __init__(self) -> None:
        self._in_use: WeakValueDictionary[Hashable, Tenant] = WeakValueDictionary()
        self._latest: OrderedDict[Hashable, Tenant] = OrderedDict()

    def of(self, config: ClientConfig) -> Tenant:
        """The tenant of a configuration's base URL and key; a new one if it was not met before."""
        key = (config.base_url, config.credential)
        tenant = self._in_use.get(key)
        if tenant is None:
            tenant = self._in_use[key] = Tenant(config)
        self._latest[key] = tenant
        self._latest.move_to_end(key)
        if len(self._latest) > _REMEMBERED:
            self._latest.popitem(last=False)
        return tenant
