"""Single conversations that are answered in another way: with fields replaced, or with an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from .errors import api_error

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Marks:
    """The overrides and the poisoned rows of a sandbox, by the index of the conversation."""

    def __init__(self) -> None:
        self._overrides: dict[int, dict[str, msgspec.Raw]] = {}
        self._poisoned: dict[int, tuple[int, bool]] = {}

    def override(self, index: int, fields: Mapping[str, Any] | None) -> None:
        """Replace wire fields of a conversation; None removes the override.

        Raises:
            ValueError: A value cannot be written as JSON.
        """
        if fields is None:
            self._overrides.pop(index, None)
        else:
            self._overrides[index] = {name: _raw(name, value) for name, value in fields.items()}

    def poison(self, index: int, status: int | None, *, everywhere: bool) -> None:
        """Fail the pages that hold a conversation; None as status heals it."""
        if status is None:
            self._poisoned.pop(index, None)
        else:
            self._poisoned[index] = status, everywhere

    def check_page(self, rows: Iterable[int]) -> None:
        """Raise the error of the first poisoned row of a list page.

        Raises:
            Refusal: A row is poisoned.
        """
        if self._poisoned:
            for index in rows:
                if index in self._poisoned:
                    status, _ = self._poisoned[index]
                    raise api_error(status, 7000, "Internal server error")

    def check_conversation(self, index: int) -> None:
        """Raise the error of a conversation that is poisoned everywhere.

        Raises:
            Refusal: The conversation is poisoned everywhere.
        """
        status, everywhere = self._poisoned.get(index, (0, False))
        if everywhere:
            raise api_error(status, 7000, "Internal server error")

    def apply(self, index: int, conversation: bytes) -> bytes:
        """The JSON of a conversation with its overrides."""
        fields = self._overrides.get(index)
        return conversation if fields is None else _encode({**_decode(conversation), **fields})


def _raw(name: str, value: Any) -> msgspec.Raw:
    if isinstance(value, bytes):
        return msgspec.Raw(value)
    try:
        return msgspec.Raw(_encode(value))
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply to be encoded: give its JSON as bytes") from None
    except (TypeError, msgspec.EncodeError) as error:
        raise ValueError(f"{name} cannot be written as JSON: {error}") from None
