"""Helpers for structured concurrency that know nothing of Alli.

- `channel`: a bounded queue between tasks that can be closed.
- `loops`: the event loop that all of it needs.
- `tasks`: groups of tasks, with one rule for what ends them and what they raise; calls made at once; work that
  survives the cancellation of its caller.
- `threads`: work in threads that no task leaves behind.
- `turns`: work that holds the event loop, spread over its turns.
"""
