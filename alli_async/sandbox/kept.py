"""JSON that was made from generated conversations, kept for all sandboxes of a process.

The tests of a program read the same few conversations again and again, and making them takes most of a sandbox's
time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

_MOST_BYTES = 64 << 20
_sources: dict[Hashable, dict[Hashable, bytes]] = {}
_held = 0


class Kept:
    """The JSON that was made from one source, by keys.

    Args:
        source: All that the JSON depends on, apart from its key.
    """

    def __init__(self, source: Hashable) -> None:
        self._source = source

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The JSON of a key, made now if it is not kept."""
        global _held
        by_key = _sources.setdefault(self._source, {})
        made = by_key.get(key)
        if made is None:
            if _held > _MOST_BYTES:
                _sources.clear()
                _held = 0
            made = make()
            _sources.setdefault(self._source, {})[key] = made
            _held += len(made)
        return made
