"""From a call to a decoded answer.

The layers of a call, from the outside in:

- `Session` (`session`): the call middlewares, the deadline, and the retries. `Call` (`call`) is the record of one
  call: its attempts, and the outcome of all of them.
- `RetryRules` (`rules`): decides after each failed attempt whether, and after how many seconds, the call goes on.
  `retry` holds the pure rules (what is retryable, how long a backoff is), the shared quota, and tenacity's loop.
- `Attempts` (`attempts`): one attempt. It waits for the end of an outage and for the limiter, sends the request
  through the middlewares, and learns from the answer. `Session` inherits from it: one object, in two modules.
- `Outage` (`outage`): while a server serves nothing, one request at a time asks whether it is back.
- `RateLimiter` (`limiter`): admits requests when `LimitModel` (`limit_model`) says so: a pure model of what the
  server allows. `pace` and `replay` fit a rate or a window, `background_errors` detects refusals by chance, and
  `rate_headers` reads what the server says of its limit. `ServerClock` (`server_clock`) reads dates.
- `Sender` (`sender`): one request on the wire. It translates every exception of aiohttp.
- `Connection` (`connection`): the aiohttp session of a client and of those derived from it. It belongs to one
  event loop and process. When that loop is closed, the next use drops the sockets, forgets what was in flight, and
  goes on in another loop with what was learnt. `routes` has proxies and certificates, `dns` the lookups.
- `Tenant` (`tenants`): what clients with the same base URL and key share: limiter, quota, outage, unit of time.
- `Lifetime` (`lifetime`): the calls in flight and the streams of one client, which closing it ends. Each call
  begins with `begin_call`, which refuses a client that is closed, or used in another loop, process or framework.
- `BackgroundResults` (`background`): an iterator over what a task of its own brings; streams are such iterators.
- `wire`: pure functions: paths, queries, status to error, Retry-After, bodies to structs.
- `decoding`: decodes large answers in slices, so that the event loop is not held. `nulls` leaves out nulls where
  the contract has none.
- `endpoint`: requests to any endpoint, for `client.request`. `bodies`, `checks`: arguments, checked.

How a call flows:

    request -> Session.perform -> call middlewares -> begin_call -> deadline -> first attempt
                                                                 after a failure: the retry loop
                                                                     |  RetryRules: wait, or why it is final
                                                                     v
               Attempts.attempt: outage -> limiter -> middlewares -> Sender -> the wire
                                   ^          ^                          |
                                   +----------+---- learns from ---------+

An error is written once more on its way out (`Attempts.note`): what was asked, how often, the outcome of the whole
call; and the key is masked in it.
"""
