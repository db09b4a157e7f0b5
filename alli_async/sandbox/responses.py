"""aioresponses made to work with the aiohttp that this package needs.

aioresponses 0.7.9 makes its responses as aiohttp 3.13 did. aiohttp 3.14 also wants the stream writer of the
request, and raises a TypeError without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock, patch

import aiohttp
from aioresponses import aioresponses, core


class _Response(aiohttp.ClientResponse):
    """A response whose request was sent to nobody."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # A later aioresponses may pass a writer of its own.
        options.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **options)


@contextmanager
def mocked_responses(**options: Any) -> Iterator[aioresponses]:
    """Answer the requests of all aiohttp sessions from a mock, without sockets.

    Args:
        **options: The options of `aioresponses`, such as `passthrough`.
    """
    with patch.object(core, "ClientResponse", _Response), aioresponses(**options) as mocked:
        yield mocked
