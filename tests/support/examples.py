"""A conversation that has everything in it, and the models around it."""

from __future__ import annotations

from typing import Any

import msgspec

from alli_async import Conversation, ConversationPage, Transcript
from tests.support import chat, conversation

LONG = "긴 글 🙂\n" * 2000
CITATION = {"clueId": "clue", "pageNo": 3, "url": None}
SOURCE = {"folderIds": ["f"], "sharedFolders": [{"id": "f", "name": "Folder"}], "searchAllSharedDocument": True}
WIRE = conversation(
    title=LONG,
    chats=[chat(number, message=LONG, citations=[CITATION], source=SOURCE) for number in range(20)],
    chatCount=20,
    user={"userId": "u", "firstName": LONG, "lastName": "b"},
    categories=["one", "two"],
    memo=LONG,
    llmApp={"id": "a", "name": LONG},
    variables={"list": [1, {"deep": None}], "text": LONG},
)


def converted(**changes: Any) -> Conversation:
    return msgspec.convert({**WIRE, **changes}, Conversation)


FULL = converted()
PAGE = ConversationPage(conversations=[FULL] * 50, cursor="c")
TRANSCRIPT = Transcript(FULL, FULL.chats)
