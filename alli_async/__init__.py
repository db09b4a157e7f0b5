"""The asyncio SDK for the Alli conversations API: typed, lossless, concurrent.

async with AlliClient() as alli:
    async for conversation in alli.conversations.list():
        print(conversation.id, conversation.title)
"""

import os as _os

from . import _log
from ._listing.filters import ConversationFilters
from ._listing.pages import ChatPages, ConversationPages
from ._transcripts.stream import TranscriptStream
from ._transport.attempts import Handler
from ._transport.call import Attempt, Call, CallHandler, CallMiddleware
from ._transport.endpoint import ApiResponse
from ._transport.limiter import Limits
from ._transport.session import Middleware
from ._transport.wire import Request, Response
from ._version import __version__
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
    "KnowledgeBaseInfo",
    "LLMApp",
    "Limits",
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
]
