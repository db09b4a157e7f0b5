"""What no bytes of a server's may do to the decoders and the wire's functions.

`python -m tests.support.fuzz -max_total_time=60` looks for such bytes with atheris, where that is installed.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
from datetime import UTC, datetime

import msgspec

from alli_async import APIError, DecodeError, config
from alli_async._transcripts.chats import Chats
from alli_async._transcripts.codec import RAW_CODEC
from alli_async._transport import wire
from alli_async.config import ClientConfig, Secret
from alli_async.export.formats.utf8 import is_utf8

from .documents import ANSWERS, FULL_CHAT

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "canary-+/0123456789=="
CONFIG = ClientConfig(base_url="", headers={"API-KEY": Secret(KEY)})
# A Retry-After and a Date, as they are in headers.
WAITS = [
    b"120\n",
    b"Thu, 01 Jan 2026 10:00:07 GMT\nThu, 01 Jan 2026 10:00:00 GMT",
    b"Thu, 01 Jan 2026 09:00:00 GMT\nThu, 01 Jan 2026 10:00:00 +0900",
    b"Thu, 01 Jan 2026 00:00:00 -0000\n",
]
CHATS = msgspec.json.format(msgspec.json.encode({"chats": [FULL_CHAT, FULL_CHAT], "pageNo": 1, "totalCount": 4}))
SEEDS = [msgspec.json.encode(document) for _, document in ANSWERS.values()]


def decode(body: bytes) -> None:
    """Every decoder gives a value or raises one of our own errors, which says where."""
    for decoder in [*(decoder for decoder, _ in ANSWERS.values()), wire.nothing]:
        try:
            decoder(body)
        except DecodeError as error:
            assert error.path.startswith("$")
            assert error.path == "$" or not error.malformed
            assert error.__context__ is None
        except APIError as error:
            assert error.message


def pass_on(body: bytes) -> None:
    """What is passed on as bytes, turned round or joined, is refused or on one line; and JSON, if it is text."""
    chats = Chats([RAW_CODEC.chats(CHATS), RAW_CODEC.chats(CHATS)])
    for make in (RAW_CODEC.from_embedded, lambda item, turn: RAW_CODEC.join(item, chats, turn)):
        for turn in (False, True):
            try:
                made = make(RAW_CODEC.conversation(body), turn)
            except (DecodeError, APIError):
                continue
            assert b"\n" not in made.json
            assert b"\r" not in made.json
            if is_utf8(made.json):
                document = json.loads(made.json, parse_int=float)
                assert len(document["chats"]) == made.chat_count


def headers(data: bytes) -> None:
    """Any headers and body are an error that can be told, and a Retry-After that can be waited for."""
    value, _, date = data.decode("latin-1").partition("\n")
    seconds = wire.retry_after(value, date, NOW)
    assert seconds is None or (0 <= seconds < math.inf)
    known = {"retry-after": value, "date": date, "location": value, "x-request-id": date}
    error = wire.error_of(wire.Response(300 + len(data) % 300, known, data), NOW)
    assert str(error.status) in str(error)


def redact(text: str) -> None:
    """Of the key never so much is left that it could be known by it."""
    assert KEY[:8] not in CONFIG.redact(text)


def main() -> None:
    """Let atheris look for bytes that one of the functions above stumbles over."""
    import atheris

    def one(data: bytes) -> None:
        decode(data)
        pass_on(data)
        headers(data)
        redact(data.decode("latin-1"))

    for module in (wire, config):
        for name, function in vars(module).copy().items():
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                setattr(module, name, atheris.instrument_func(function))
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
