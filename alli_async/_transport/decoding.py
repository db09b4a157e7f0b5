"""Answers decoded in turns of the event loop, so that a large one does not hold up everything else in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw

from .._aio.turns import Turns, loop_turns
from ..errors import AlliError
from . import wire

T = TypeVar("T")
OtherT = TypeVar("OtherT")
Decode = Callable[[bytes], T]

# Bytes of a body that is decoded at once: it takes less time than the rest of its call.
AT_ONCE = 8 << 10
# Bytes of a body that is decoded row by row: at once it would hold the loop for milliseconds, or for a tenth of a
# second where it is as large as it may be.
_LARGE = 512 << 10


@dataclass(frozen=True, slots=True)
class RowDecoder(Generic[T]):
    """Decodes an answer that holds a list. `in_turns` decodes a large one row by row.

    Attributes:
        decode_at_once: Decodes a body at once, and raises the error of one that cannot be decoded.
        split: Splits a body into the bytes of its rows and whatever else it holds.
        row: Decodes a row.
        join: Makes the answer of the decoded rows and of whatever else the body holds.
    """

    decode_at_once: Callable[[bytes], T]
    split: Callable[[bytes], tuple[Sequence[Raw], Any]]
    row: Callable[[Raw], Any]
    join: Callable[[list[Any], Any], T]

    def __call__(self, body: bytes) -> T:
        return self.decode_at_once(body)

    async def in_turns(self, body: bytes, turns: Turns) -> T | None:
        """Decode a body row by row; None where `decode_at_once` must find the error, or repair the body."""
        try:
            raws, rest = self.split(body)
            rows = []
            for raw in raws:
                await turns.take(memoryview(raw).nbytes)
                rows.append(self.row(raw))
            return self.join(rows, rest)
        except (*wire.UNDECODABLE, AlliError):
            return None

    def map(self, convert: Callable[[T], OtherT], decode_at_once: Callable[[bytes], OtherT]) -> RowDecoder[OtherT]:
        """A decoder of the same rows, whose answers are converted.

        Args:
            convert: Converts an answer.
            decode_at_once: Decodes a body at once to a converted answer.
        """
        join = self.join
        return RowDecoder(decode_at_once, self.split, self.row, lambda rows, rest: convert(join(rows, rest)))


def row_decoder(
    kind: type[T], rows: str, row: Callable[[Raw], Any], decode_at_once: Callable[[bytes], T] | None = None
) -> RowDecoder[T]:
    """A decoder of answers of a kind, one field of which is a list.

    Args:
        kind: The struct of the answer.
        rows: The name of the field that holds the list.
        row: Decodes a row.
        decode_at_once: Decodes a body at once; None to decode the struct as it is.
    """
    fields = [each for each in msgspec.structs.fields(kind) if each.name != rows]  # type: ignore[arg-type]
    names = [each.name for each in fields]
    rest_fields: list[Any] = [
        (each.name, each.type, msgspec.field(name=each.encode_name, default=each.default)) for each in fields
    ]
    rest_fields += [(rows, list[Raw]), *((name, Any, None) for name in wire.ERROR_FIELDS)]
    decode_rest = msgspec.json.Decoder(msgspec.defstruct("Rest", rest_fields, kw_only=True, gc=False)).decode

    def split(body: bytes) -> tuple[Sequence[Raw], Any]:
        rest: Any = decode_rest(body)
        if wire.reports_error(rest):
            raise msgspec.ValidationError("an error beside the rows")
        return getattr(rest, rows), rest

    def join(found: list[Any], rest: Any) -> T:
        return kind(**{rows: found}, **{name: getattr(rest, name) for name in names})

    return RowDecoder(decode_at_once or wire.decoder(kind), split, row, join)


async def decoder_for(decode: Decode[T], body: bytes) -> Decode[T]:
    """Wait for a turn of the event loop in which to decode a body.

    Returns:
        A function that gives the decoded body. A large list is decoded here already, row by row.
    """
    size, turns = len(body), loop_turns()
    if size > _LARGE and isinstance(decode, RowDecoder):
        found = await decode.in_turns(body, turns)
        if found is not None:
            return lambda _: found
    await turns.take(size)
    return decode
