"""The models: what Alli sends and receives, in snake_case, decoded by msgspec.

Unknown fields are ignored. A field that the contract lets be null may also be missing, and is None then. Times
stay the numbers that were sent (epoch milliseconds as far as seen; seconds are possible). Beside each of them is a
`datetime` property, which tells milliseconds from seconds.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ._model import Answer, Model, ResponseInfo, ShortRepr, declare_fields

__all__ = [
    "UNSET",
    "Chat",
    "ChatInputSource",
    "ChatPage",
    "Citation",
    "Conversation",
    "ConversationPage",
    "ConversationState",
    "ConversationUpdate",
    "DailyCount",
    "DailyCounts",
    "Feedback",
    "FeedbackReason",
    "FolderInfo",
    "KnowledgeBaseInfo",
    "LLMApp",
    "Order",
    "RawTranscript",
    "Region",
    "ResponseInfo",
    "Skipped",
    "StreamStats",
    "Transcript",
    "UnsetType",
    "User",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# As seconds this is in the year 5138, as milliseconds in March 1973. So times of conversations in seconds are
# smaller, and times in milliseconds larger.
_SECONDS_END = 1e11


def in_milliseconds(value: float) -> bool:
    """Whether a time of the wire counts milliseconds rather than seconds."""
    return abs(value) >= _SECONDS_END


def units_per_second_of(value: float) -> float:
    """Units of a time of the wire in one second: 1 (it counts seconds) or 1000 (milliseconds)."""
    return 1000.0 if in_milliseconds(value) else 1.0


def to_datetime(value: float) -> datetime:
    """Convert a time of the wire to a datetime in UTC.

    Args:
        value: Seconds or milliseconds since 1970, with fractions.

    Raises:
        ValueError: The time is not in the years 1 to 9999.
    """
    try:
        return EPOCH + (timedelta(milliseconds=value) if in_milliseconds(value) else timedelta(seconds=value))
    except (OverflowError, ValueError):
        raise ValueError(f"not a moment in the years 1 to 9999: {value!r}") from None


class Region(StrEnum):
    """The regions of the service, each with its own base URL."""

    US = "us"
    JA = "ja"


class Order(StrEnum):
    """The orders in which conversations can be listed."""

    LAST_CHAT_TIME_DESC = "LAST_CHAT_TIME_DESC"
    LAST_CHAT_TIME_ASC = "LAST_CHAT_TIME_ASC"
    FIRST_CHAT_TIME_DESC = "FIRST_CHAT_TIME_DESC"
    FIRST_CHAT_TIME_ASC = "FIRST_CHAT_TIME_ASC"


class ConversationState(StrEnum):
    """The states that a conversation can be given, by the wire's codes.

    Neither the contract nor any public documentation says what a code means, so the names are the codes.
    """

    NO = "no"
    EB = "eb"
    EA = "ea"
    EU = "eu"
    WA = "wa"
    WU = "wu"
    WU2 = "wu2"
    IN = "in"
    PND = "pnd"
    EO = "eo"
    LCK = "lck"


class FeedbackReason(StrEnum):
    """What was wrong with an answer."""

    NOT_RELEVANT = "not_relevant"
    INACCURATE = "inaccurate"
    NOT_BEST_ANSWER = "not_best_answer"


# gc=False: the wire is a tree, so these structs are never part of a cycle, and the garbage collector need not walk
# the thousands of structs of a page (which took a quarter of the decoding time, and paused the event loop).
class _Wire(Model, Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """The base of all nested structs."""


class User(_Wire, frozen=True):
    """The user who talked with the app."""

    user_id: str
    first_name: str
    last_name: str


class LLMApp(_Wire, frozen=True):
    """The app that answered."""

    id: str
    name: str
    description: str | None = None


class KnowledgeBaseInfo(_Wire, frozen=True):
    """A document that may be searched for an answer."""

    id: str
    name: str


class FolderInfo(_Wire, frozen=True):
    """A folder of documents that may be searched for an answer."""

    id: str
    name: str


class Citation(_Wire, frozen=True):
    """A passage that an answer is based on."""

    clue_id: str
    source: str | None = None
    title: str | None = None
    knowledge_base_id: str | None = None
    page_no: int | None = None
    url: str | None = None
    text: str | None = None


class ChatInputSource(_Wire, frozen=True):
    """The sources that the answer to a question may use."""

    knowledge_base_ids: list[str] | None = None
    folder_ids: list[str] | None = None
    web_sites: list[str] | None = None
    search_all_shared_document: bool = False
    search_all_personal_document: bool = False
    including_hashtags: list[str] | None = None
    excluding_hashtags: list[str] | None = None
    including_hashtags_operator: str | None = None
    excluding_hashtags_operator: str | None = None
    shared_knowledge_bases: list[KnowledgeBaseInfo] | None = None
    shared_folders: list[FolderInfo] | None = None
    personal_knowledge_bases: list[KnowledgeBaseInfo] | None = None
    personal_folders: list[FolderInfo] | None = None


class Chat(_Wire, frozen=True):
    """One message of a conversation."""

    id: str
    sender: str
    message: str
    timestamp: int | float
    source: ChatInputSource | None = None
    citations: list[Citation] | None = None
    rating: bool | None = None
    agent_rating: bool | None = None

    @property
    def sent(self) -> datetime:
        """`timestamp` as a datetime in UTC."""
        return to_datetime(self.timestamp)


class Conversation(Answer, frozen=True):
    """A conversation, with its most recent chats (at most 20 as far as seen; a server may send none, or all).

    `chat_count` is the server's number. It may count something else than the `total_count` of the chat pages.
    """

    id: str
    title: str
    created_at: int | float
    is_end: bool
    chats: list[Chat]
    chat_count: int
    user: User | None = None
    last_chat_time: int | float | None = None
    categories: list[str] | None = None
    memo: str | None = None
    llm_app: LLMApp | None = None
    variables: dict[str, Any] | None = None

    @property
    def created(self) -> datetime:
        """`created_at` as a datetime in UTC."""
        return to_datetime(self.created_at)

    @property
    def last_chat(self) -> datetime | None:
        """`last_chat_time` as a datetime in UTC; None for a conversation without chats."""
        return None if self.last_chat_time is None else to_datetime(self.last_chat_time)


class ConversationPage(Answer, frozen=True):
    """One page of a list. `cursor` is the cursor of the next page; None on the last page."""

    conversations: list[Conversation]
    cursor: str | None = None


class ChatPage(Answer, frozen=True):
    """One page (of 100, as far as seen) of a conversation's chats, oldest first."""

    chats: list[Chat]
    page_no: int
    total_count: int


class Feedback(Answer, frozen=True):
    """The feedback as the server has stored it."""

    conversation_id: str
    chat_id: str
    rating: bool | None = None


class DailyCount(_Wire, frozen=True):
    """The number of active conversations on one day."""

    date: str
    active_count: int


class DailyCounts(Answer, frozen=True):
    """The answer to `daily_counts`."""

    daily_total_count: list[DailyCount] = msgspec.field(default_factory=list)
    state: str | None = None
    campaign_count: int | None = None

    @property
    def days(self) -> list[DailyCount]:
        """A shorter name of `daily_total_count`."""
        return self.daily_total_count


class Transcript(Model, Struct, frozen=True, gc=False):
    """A conversation with all its chats, oldest first."""

    conversation: Conversation
    chats: list[Chat]

    @property
    def id(self) -> str:
        """The conversation's id."""
        return self.conversation.id


class RawTranscript(ShortRepr, Struct, frozen=True, gc=False):
    """A transcript as the server sent it.

    `json` is one JSON object, the conversation, whose `chats` are all its chats, oldest first. It contains no
    newline, so it can be written as a line of JSON Lines as it is. Its texts are not validated: if a server sends
    bytes that are not UTF-8, `json` contains them. (An export quarantines such conversations.)
    """

    id: str
    json: bytes
    chat_count: int


class ConversationUpdate(Model, Struct, frozen=True, kw_only=True, rename="camel"):
    """The changes of an update. None is sent as null; a field that is UNSET is not sent.

    Attributes:
        state: The new state.
        assignee: The new assignee.
        category_ids: The ids of the new categories, in place of the present ones.
        title: The new title.
    """

    state: ConversationState | UnsetType | None = UNSET
    assignee: str | UnsetType | None = UNSET
    category_ids: list[str] | UnsetType | None = UNSET
    title: str | UnsetType | None = UNSET


class StreamStats(Model, Struct, kw_only=True):
    """The progress of a stream, in numbers that are cheap enough for a progress bar.

    Attributes:
        conversations: Number of conversations that were yielded or are ready; one that comes again counts once.
        chats: Number of chats in these conversations, in their latest versions.
        requests: Number of requests on the wire, including retries.
        retries: Number of requests that were second or later attempts.
        refused: Number of answers 429 and 503.
        bytes: Size of all answers in bytes, decompressed.
        seconds_waited: Seconds in the limiter's queue and between attempts, summed over all tasks.
        in_flight: Number of requests in flight now.
    """

    conversations: int = 0
    chats: int = 0
    requests: int = 0
    retries: int = 0
    refused: int = 0
    bytes: int = 0
    seconds_waited: float = 0.0
    in_flight: int = 0


class Skipped(Struct, frozen=True):
    """A conversation that a stream with `on_error="skip"` or an export has left out.

    Attributes:
        id: The conversation's id; None for a row that could not be listed.
        error: Why the conversation could not be read completely.
        span: For a row that could not be listed or decoded, the first chat times between which it lies, in the
            server's unit; None if they are not known.
    """

    id: str | None
    error: Exception
    span: tuple[float, float] | None = None


for _kind in map(globals().get, __all__):
    if isinstance(_kind, type) and issubclass(_kind, Model):
        declare_fields(_kind)
