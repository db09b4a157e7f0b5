"""A plain script: give every conversation of an app that has none a title, many at once.

Run it: `python script.py APP_ID`. What an error or Ctrl-C leaves undone, the next run does.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from alli_async import AlliClient, Conversation


async def main(app_id: str) -> None:
    async with AlliClient() as alli:

        async def untitled() -> AsyncIterator[Conversation]:
            async for conversation in alli.conversations.list(llm_app_id=app_id):
                if not conversation.title and conversation.chats and conversation.chats[0].message.strip():
                    yield conversation

        async def give_title(conversation: Conversation) -> str:
            title = conversation.chats[0].message.strip().splitlines()[0][:80]
            return (await alli.conversations.set_title(conversation.id, title)).title

        done = failed = 0
        async for result in alli.conversations.for_each(untitled(), give_title, on_error="skip"):
            if result.error is None:
                done += 1
            else:
                failed += 1
                print(f"{result.item.id}: {result.error}", file=sys.stderr)
        print(f"{done} titles given, {failed} failed")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python script.py APP_ID")
    asyncio.run(main(sys.argv[1]))
