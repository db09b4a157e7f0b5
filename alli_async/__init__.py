"""The asyncio SDK for the Alli conversations API: typed, lossless, concurrent.

async with AlliClient() as alli:
    async for conversation in alli.conversations.list():
        print(conversation.id, conversation.title)
"""

import os as _os
from typing import TYPE_CHECKING

from . import _log
from ._lazy import lazy_names
from ._version import __version__

if TYPE_CHECKING:
    from ._for_each import ItemResult, ItemResults
    from ._listing.filters import ConversationFilters
    from ._listing.pages import ChatPages, ConversationPages
    from ._malloc import tune_malloc
    from ._transcripts.stream import TranscriptStream
    from ._transport.attempts import Handler
    from ._transport.call import Attempt, Call, CallHandler, CallMiddleware
    from ._transport.endpoint import ApiResponse
    from ._transport.limiter import Limits
    from ._transport.session import Middleware
    from ._transport.wire import Request, Response
    from .client import AlliClient
    from .config import RetryPolicy
    from .conversations import ConversationsAPI
    from .errors import (
        AlliConnectionError,
        AlliError,
        AlliTimeoutError,
        APIError,
        AuthenticationError,
        BadRequestError,
        ClientStateError,
        ConfigurationError,
        DecodeError,
        ExportError,
        IncompleteError,
        LockedError,
        NotFoundError,
        PaginationError,
        PaymentRequiredError,
        PermissionDeniedError,
        RateLimitError,
        RedirectError,
        ResponseTooLargeError,
        ServerError,
        TLSError,
        TransportError,
    )
    from .models import (
        UNSET,
        Chat,
        ChatInputSource,
        ChatPage,
        Citation,
        Conversation,
        ConversationPage,
        ConversationState,
        ConversationUpdate,
        DailyCount,
        DailyCounts,
        Feedback,
        FeedbackReason,
        FolderInfo,
        KnowledgeBaseInfo,
        LLMApp,
        Order,
        RawTranscript,
        Region,
        ResponseInfo,
        Skipped,
        StreamStats,
        Transcript,
        UnsetType,
        User,
    )

_log.switch_on(_os.environ)

__all__ = [
    "UNSET",
    "APIError",
    "AlliClient",
    "AlliConnectionError",
    "AlliError",
    "AlliTimeoutError",
    "ApiResponse",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "Call",
    "CallHandler",
    "CallMiddleware",
    "Chat",
    "ChatInputSource",
    "ChatPage",
    "ChatPages",
    "Citation",
    "ClientStateError",
    "ConfigurationError",
    "Conversation",
    "ConversationFilters",
    "ConversationPage",
    "ConversationPages",
    "ConversationState",
    "ConversationUpdate",
    "ConversationsAPI",
    "DailyCount",
    "DailyCounts",
    "DecodeError",
    "ExportError",
    "Feedback",
    "FeedbackReason",
    "FolderInfo",
    "Handler",
    "IncompleteError",
    "ItemResult",
    "ItemResults",
    "KnowledgeBaseInfo",
    "LLMApp",
    "Limits",
    "LockedError",
    "Middleware",
    "NotFoundError",
    "Order",
    "PaginationError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "RawTranscript",
    "RedirectError",
    "Region",
    "Request",
    "Response",
    "ResponseInfo",
    "ResponseTooLargeError",
    "RetryPolicy",
    "ServerError",
    "Skipped",
    "StreamStats",
    "TLSError",
    "Transcript",
    "TranscriptStream",
    "TransportError",
    "UnsetType",
    "User",
    "__version__",
    "tune_malloc",
]

# A name is imported when it is first used: the command's help, and a pytest run without the sandbox, need neither
# aiohttp nor the structs.
_HOMES = {
    "._for_each": "ItemResult ItemResults",
    "._listing.filters": "ConversationFilters",
    "._listing.pages": "ChatPages ConversationPages",
    "._malloc": "tune_malloc",
    "._transcripts.stream": "TranscriptStream",
    "._transport.attempts": "Handler",
    "._transport.call": "Attempt Call CallHandler CallMiddleware",
    "._transport.endpoint": "ApiResponse",
    "._transport.limiter": "Limits",
    "._transport.session": "Middleware",
    "._transport.wire": "Request Response",
    ".client": "AlliClient",
    ".config": "RetryPolicy",
    ".conversations": "ConversationsAPI",
    ".errors": """
        AlliConnectionError AlliError AlliTimeoutError APIError AuthenticationError BadRequestError
        ClientStateError ConfigurationError DecodeError ExportError IncompleteError LockedError NotFoundError
        PaginationError PaymentRequiredError PermissionDeniedError RateLimitError RedirectError
        ResponseTooLargeError ServerError TLSError TransportError
    """,
    ".models": """
        UNSET Chat ChatInputSource ChatPage Citation Conversation ConversationPage ConversationState
        ConversationUpdate DailyCount DailyCounts Feedback FeedbackReason FolderInfo KnowledgeBaseInfo
        LLMApp Order RawTranscript Region ResponseInfo Skipped StreamStats Transcript UnsetType User
    """,
}
_SUBMODULES = ("client", "config", "conversations", "errors", "models")

if not TYPE_CHECKING:  # A type checker would believe that every name is there.
    __getattr__ = lazy_names(__name__, _HOMES, _SUBMODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
