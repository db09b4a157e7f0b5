"""The base of the models: plain builtins, JSON, a short repr, and what other libraries look for.

A model is a msgspec struct. It is also a dataclass to whoever asks (`dataclasses.asdict`, orjson, FastAPI's
`jsonable_encoder`, taskiq) and a Pydantic type; Pydantic is imported only when it asks.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Struct

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ["Answer", "AnswerSource", "Model", "ResponseInfo", "ShortRepr", "declare_fields", "keep_source"]

# Characters of a repr, and of one value in it: a line of a log, not a screen of it.
_REPR_LENGTH, _VALUE_LENGTH = 280, 60
_SCALARS = frozenset({str, int, float, bool, type(None)})


class ShortRepr:
    """Gives a struct a short repr, whatever the struct holds."""

    __slots__ = ()

    __struct_fields__: ClassVar[tuple[str, ...]]
    __struct_defaults__: ClassVar[tuple[Any, ...]]

    def __repr__(self) -> str:
        parts: list[str] = []
        left = _REPR_LENGTH - len(type(self).__name__)
        for name, value in self.__rich_repr__():
            part = f"{name}={value!r}"
            left -= len(part) + 2
            if left < 0:
                parts.append("…")
                break
            parts.append(part)
        return f"{type(self).__name__}({', '.join(parts)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        names = self.__struct_fields__
        defaults = dict(zip(reversed(names), reversed(self.__struct_defaults__), strict=False))
        values = ((name, getattr(self, name)) for name in names)
        return [
            (name, _Short(_shown(name, value)))
            for name, value in values
            if name not in defaults or value is not defaults[name]
        ]


class _Short:
    """A value in a repr."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _shown(name: str, value: object) -> str:
    if isinstance(value, (list, dict)):
        return f"<{len(value):,} {name.replace('_', ' ')}>"
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, Struct):
        first = getattr(value, value.__struct_fields__[0])
        return f"<{type(value).__name__} {_cut(first)}>" if isinstance(first, str) else f"<{type(value).__name__}>"
    return _cut(value)


def _cut(value: object) -> str:
    is_text = isinstance(value, str)
    text = repr(value[:_VALUE_LENGTH] if isinstance(value, str) else value)
    if len(text) <= _VALUE_LENGTH and not (is_text and len(str(value)) > _VALUE_LENGTH):
        return text
    return text[: _VALUE_LENGTH - 1] + "…" + (text[0] if is_text else "")


class Model(ShortRepr):
    """What structs become models by: plain builtins, JSON, and the protocols of other libraries."""

    __slots__ = ()

    # What makes `dataclasses.is_dataclass` true; `declare_fields` fills it in.
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]] = {}

    def to_dict(self, *, wire_names: bool = False) -> dict[str, Any]:
        """The model as plain builtins all the way down: dicts, lists, texts, numbers, booleans and None.

        Args:
            wire_names: Whether names are those of the wire (`createdAt`), not of Python (`created_at`).
        """
        if wire_names:
            found: dict[str, Any] = msgspec.to_builtins(self)
            return found
        return _plain(self)

    def to_json(self, *, wire_names: bool = False) -> str:
        """The model as JSON.

        Args:
            wire_names: Whether names are those of the wire (`createdAt`), not of Python (`created_at`).
        """
        return msgspec.json.encode(self if wire_names else _plain(self)).decode()

    def __json__(self, *_: object) -> dict[str, Any]:
        # The JSON encoders of kombu (Celery) and Pyramid ask for this.
        return _plain(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from ._pydantic import core_schema_of  # Pydantic is there only when it asks.

        return core_schema_of(cls, handler)


def _plain(model: Any) -> dict[str, Any]:
    found = msgspec.structs.asdict(model)
    kind: Any = type(model)
    for name in _nested(kind):
        value = found[name]
        if value is UNSET:
            del found[name]
        elif value is not None:
            found[name] = _builtin(value)
    return found


def _builtin(value: object) -> object:
    if isinstance(value, Struct):
        return _plain(value)
    if isinstance(value, list):
        return [_builtin(each) for each in value]
    return value if type(value) in _SCALARS else msgspec.to_builtins(value)


@cache
def _nested(kind: Any) -> tuple[str, ...]:
    """The names of the fields that may hold something else than a text, a number, a boolean or None."""

    def is_scalar(annotation: Any) -> bool:
        if get_origin(annotation) in (Union, UnionType):
            return all(map(is_scalar, get_args(annotation)))
        return annotation in _SCALARS

    return tuple(each.name for each in msgspec.structs.fields(kind) if not is_scalar(each.type))


@dataclasses.dataclass(repr=False, frozen=True)
class _Example:
    field: object


def declare_fields(kind: type[Model]) -> None:
    """Let a model pass for a dataclass.

    To make a real one of the same name and fields would take a hundred times as long, at each import.
    """
    fields = {}
    for name in kind.__struct_fields__:
        field = fields[name] = copy.copy(_Example.__dataclass_fields__["field"])
        field.name, field.type = name, kind.__annotations__.get(name, object)
    kind.__dataclass_fields__ = fields
    # pprint reads this of every dataclass with a long repr.
    kind.__dataclass_params__ = _Example.__dataclass_params__  # type: ignore[attr-defined]


# --- whole answers ----------------------------------------------------------------------------------------


class ResponseInfo(Struct, frozen=True, kw_only=True):
    """The HTTP answer behind a result.

    Attributes:
        status: The HTTP status.
        headers: The answer's headers, a case-insensitive mapping.
        request_id: The server's id of the request, where it sent one.
        attempts: The number of requests that were sent for it.
        elapsed: Seconds of the whole call, waits and retries included.
    """

    status: int
    headers: Mapping[str, str]
    request_id: str | None
    attempts: int
    elapsed: float

    def __repr__(self) -> str:
        told = f"status={self.status}, headers=<{len(self.headers)} headers>, request_id={self.request_id!r}"
        return f"ResponseInfo({told}, attempts={self.attempts}, elapsed={self.elapsed:.3f})"


class _Response(Protocol):
    status: int
    headers: Mapping[str, str]
    body: bytes


class AnswerSource(Struct, frozen=True, gc=False):
    """What a whole answer keeps of the call that brought it.

    Attributes:
        response: The HTTP answer.
        attempts: The number of requests that were sent.
        elapsed: Seconds of the whole call.
        describe: Makes the public description of these, when it is asked for.
    """

    response: _Response
    attempts: int
    elapsed: float
    describe: Callable[[AnswerSource], ResponseInfo]


class _Kept:
    """A place for the source of a whole answer.

    A slot beside the fields: equality, pickle, copies and JSON do not know it, and a row of a list, which leaves
    it empty, needs no dictionary for it.
    """

    __slots__ = ("_source",)

    _source: AnswerSource


class Answer(_Kept, Model, Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """The base of the models that can be a whole answer: the answer stays reachable."""

    @property
    def raw(self) -> bytes:
        """The whole response body this was decoded from; empty when it was part of another, or built by hand."""
        source = getattr(self, "_source", None)
        return b"" if source is None else source.response.body

    @property
    def response(self) -> ResponseInfo | None:
        """Status, headers, request id, attempts and seconds of the answer; None where `raw` is empty."""
        source = getattr(self, "_source", None)
        return None if source is None else source.describe(source)


def keep_source(answer: Answer, source: AnswerSource) -> None:
    """Keep the source of a whole answer; answers are frozen for everyone else."""
    _set_source(answer, source)


_set_source = _Kept.__dict__["_source"].__set__
