"""From a call to a decoded answer.

The layers of a call, from the outside in:

- `Session` (`session`): the call middlewares, the deadline, and the retries. `Call` (`call`) is the record of one
  call: its attempts, and the outcome of all of them.
- `RetryRules` (`rules`): decides after each failed attempt whether, and after how many seconds, the call goes on.
  `retry` holds the pure rules (what is retryable, how long a backoff is), the shared quota, and tenacity's loop.
- `Attempts` (`attempts`): one attempt. It passes the outage, then the throttle, then the middlewares, and learns
  from the answer.
- `Outage` (`outage`): while a server serves nothing, one request at a time asks whether it is back.
- `Throttle` (`throttle`, `allowance`, `chance`): how many requests may be in flight, and when the next may go.
- `Sender` (`sender`): one request on the wire. It translates every exception of aiohttp.
- `Connection` (`connection`): the aiohttp session, and the state that a client shares with those derived from it.
- `wire`: pure functions: paths, queries, status to error, Retry-After, bodies to structs.
- `endpoint`: requests to any endpoint, for `client.request`. `bodies`, `checks`: arguments, checked.

How a call flows:

    request -> Session.perform -> call middlewares -> deadline -> retry loop
                                                                     |  RetryRules: wait, or why it is final
                                                                     v
               Attempts.attempt: outage -> throttle -> middlewares -> Sender -> the wire
                                   ^          ^                          |
                                   +----------+---- learns from ---------+

An error is written once more on its way out (`Attempts.note`): what was asked, how often, the outcome of the whole
call; and the key is masked in it.
"""
