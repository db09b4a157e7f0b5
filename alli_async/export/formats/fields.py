"""The fields of a conversation and of a chat, which every format and `columns` and `redact` are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

# `texts` is a list of strings, `object` and `objects` have fields of their own, `json` is any value.
Kind = Literal["text", "flag", "whole", "time", "texts", "object", "objects", "json"]


class Field(Struct, frozen=True):
    """A field of the wire.

    Attributes:
        name: The name in snake_case.
        kind: The type of its values; any value may be null.
        fields: The fields of an object, or of each object of a list.
    """

    name: str
    kind: Kind
    fields: tuple[Field, ...] = ()

    @property
    def wire_name(self) -> str:
        """The name on the wire."""
        return camel_case(self.name)


def camel_case(name: str) -> str:
    """A name of snake_case as the wire writes it."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _texts(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name, "text") for name in names)


_NAMED = _texts("id", "name")
_SOURCE = (
    *(Field(name, "texts") for name in ("knowledge_base_ids", "folder_ids", "web_sites")),
    *(Field(name, "flag") for name in ("search_all_shared_document", "search_all_personal_document")),
    *(Field(name, "texts") for name in ("including_hashtags", "excluding_hashtags")),
    *_texts("including_hashtags_operator", "excluding_hashtags_operator"),
    *(Field(name, "objects", _NAMED) for name in ("shared_knowledge_bases", "shared_folders")),
    *(Field(name, "objects", _NAMED) for name in ("personal_knowledge_bases", "personal_folders")),
)
_CITATION = (
    *_texts("clue_id", "source", "title", "knowledge_base_id"),
    Field("page_no", "whole"),
    *_texts("url", "text"),
)
CHAT = (
    *_texts("id", "sender", "message"),
    Field("timestamp", "time"),
    Field("rating", "flag"),
    Field("agent_rating", "flag"),
    Field("source", "object", _SOURCE),
    Field("citations", "objects", _CITATION),
)
CONVERSATION = (
    *_texts("id", "title"),
    Field("created_at", "time"),
    Field("last_chat_time", "time"),
    Field("is_end", "flag"),
    Field("chat_count", "whole"),
    Field("user", "object", _texts("user_id", "first_name", "last_name")),
    Field("categories", "texts"),
    Field("memo", "text"),
    Field("llm_app", "object", _texts("id", "name", "description")),
    Field("variables", "json"),
    Field("chats", "objects", CHAT),
)
# Stands for the fields that this version does not know, in a conversation and in each of its chats.
EXTRA = "extra"

# The column of Parquet that tells when an export found that the server does not have a conversation any more.
DELETED_AT = "deleted_at"


def paths(fields: tuple[Field, ...] = CONVERSATION, prefix: str = "") -> Iterator[tuple[str, Field | None]]:
    """Every name for `columns` and `redact`, like `user.first_name`; None stands for the unknown fields."""
    for field in fields:
        yield prefix + field.name, field
        yield from paths(field.fields, f"{prefix}{field.name}.")
    if fields in (CONVERSATION, CHAT):
        yield prefix + EXTRA, None
