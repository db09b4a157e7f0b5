"""Answers in which every field of the contract has a value, each with the decoder that reads it."""

from __future__ import annotations

from typing import Any

from alli_async._transcripts.codec import RAW_CODEC, STRUCT_CODEC
from alli_async._transport import bodies

from . import chat, conversation

FULL_CHAT = chat(
    1,
    source={
        "knowledgeBaseIds": ["k"],
        "folderIds": ["f"],
        "webSites": ["w"],
        "searchAllSharedDocument": True,
        "searchAllPersonalDocument": True,
        "includingHashtags": ["h"],
        "excludingHashtags": ["h"],
        "includingHashtagsOperator": "AND",
        "excludingHashtagsOperator": "OR",
        "sharedKnowledgeBases": [{"id": "k", "name": "n"}],
        "sharedFolders": [{"id": "f", "name": "n"}],
        "personalKnowledgeBases": [{"id": "k", "name": "n"}],
        "personalFolders": [{"id": "f", "name": "n"}],
    },
    citations=[
        {"clueId": "c", "source": "s", "title": "t", "knowledgeBaseId": "k", "pageNo": 1, "url": "u", "text": "x"}
    ],
    rating=True,
    agentRating=False,
)
FULL = conversation(
    user={"userId": "u", "firstName": "f", "lastName": "l"},
    categories=["c"],
    memo="m",
    llmApp={"id": "a", "name": "n", "description": "d"},
    variables={"v": 1},
    chats=[FULL_CHAT],
    chatCount=1,
)
# A row of a list is what a conversation is; two of its depth are enough there.
ROW = conversation(chats=[chat(1)], chatCount=1)
ANSWERS: dict[str, tuple[Any, Any]] = {
    "conversation": (STRUCT_CODEC.conversation, FULL),
    "list": (STRUCT_CODEC.list_page, {"conversations": [ROW], "cursor": "c"}),
    "chats": (STRUCT_CODEC.chats, {"chats": [FULL_CHAT], "pageNo": 1, "totalCount": 1}),
    "feedback": (bodies.decode_feedback, {"conversationId": "c", "chatId": "x", "rating": True}),
    "running": (bodies.decode_running, {"isRunning": True}),
    "daily": (
        bodies.decode_daily,
        {
            "result": {
                "dailyTotalCount": [{"date": "2026-01-01", "activeCount": 3}],
                "state": "done",
                "campaignCount": 2,
            },
            "errors": None,
        },
    ),
    "raw conversation": (RAW_CODEC.conversation, FULL),
    "raw list": (RAW_CODEC.list_page, {"conversations": [ROW], "cursor": "c"}),
    "raw chats": (RAW_CODEC.chats, {"chats": [chat(1)], "pageNo": 1, "totalCount": 1}),
}
