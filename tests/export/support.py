"""What the tests of exports share: a sandbox and exports in processes, and what they wrote."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from alli_async import AlliClient
from alli_async._listing.filters import Filters
from alli_async._listing.page_reader import PageReader
from alli_async._listing.survey import Survey, survey_list
from alli_async._transcripts.codec import RAW_CODEC
from alli_async.export.planning import plan_run
from alli_async.export.records import Commit, RunPlan, Shard
from alli_async.export.shard_reader import ShardReader
from alli_async.export.tuning import DEFAULT_TUNING, Tuning
from alli_async.models import RawTranscript
from alli_async.sandbox import Sandbox
from tests.support import Exchange, answer, chat, commands, conversation

COMMAND = [sys.executable, "-m", "alli_async"]


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait for what a thread or a process does by itself, for half a minute at most."""
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def records(dest: Path) -> list[dict[str, Any]]:
    """Every line of every part that is there."""
    return [
        json.loads(line)
        for path in sorted((dest / "conversations").glob("[!.]*.jsonl*"))
        for line in (
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        ).splitlines()
    ]


def chats_by_id(dest: Path) -> dict[str, list[str]]:
    """The ids of the chats of each conversation; one that is there twice is an error."""
    found = records(dest)
    twice = [each for each, times in Counter(record["id"] for record in found).items() if times > 1]
    assert not twice, twice
    return {record["id"]: [chat["id"] for chat in record["chats"]] for record in found}


def manifest(dest: Path) -> dict[str, Any]:
    """The manifest, once it is proved that the parts are what it says."""
    found: dict[str, Any] = json.loads((dest / "manifest.json").read_text("utf-8"))
    assert found["complete"] is True
    for part in found["parts"]:
        data = (dest / part["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["bytes"], part["sha256"])
    there = {
        str(path.relative_to(dest)) for name in ("conversations", "chats") for path in (dest / name).glob("*")
    }
    assert there == {part["name"] for part in found["parts"]}
    return found


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON Lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def read_record(path: Path) -> dict[str, Any]:
    """A record of the commit log as an earlier format has it: without a checksum."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    del found["checksum"]
    return found


def truth(sandbox: Sandbox) -> dict[str, list[str]]:
    """The ids of the chats of each conversation that the server has."""
    return {each: sandbox.chat_ids(each) for each in sandbox.conversation_ids()}


def lying(about: list[str], gone: list[str]) -> Any:
    """A middleware that makes the chats of some conversations never add up, and others not be there."""

    async def lies(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        if any(request.path.endswith(f"/{each.replace('=', '%3D')}/chats") for each in about):
            response.body = response.body.replace(b'"totalCount":', b'"totalCount":1')
        if any(request.path.endswith(f"/{each.replace('=', '%3D')}") for each in gone):
            response.status = 404
        return response

    return lies


def embedded(number: int, chats: int, count: int | None = None) -> dict[str, Any]:
    """A conversation of a list with its chats; `count` if it says another number of them."""
    some = [chat(n) for n in range(chats)]
    return conversation(id=f"c{number}", chats=some, chatCount=chats if count is None else count)


def listing(conversations: list[dict[str, Any]], totals: dict[str, int], fresh: dict[str, int]) -> Any:
    """A server with pages of fifty of these conversations, these numbers of chats, and these fresh counts."""

    async def send(exchange: Exchange) -> None:
        parts = urlsplit(exchange.request.target)
        names = parts.path.split("/")
        if names[-1] == "chats":
            some = [chat(n) for n in range(totals[names[-2]])]
            body = {"chats": some, "pageNo": 1, "totalCount": len(some)}
        elif names[-1] != "conversations":
            body = conversation(id=names[-1], chatCount=fresh[names[-1]])
        else:
            start = int(parse_qs(parts.query).get("cursor", ["0"])[0])
            following = str(start + 50) if start + 50 < len(conversations) else None
            body = {"conversations": conversations[start : start + 50], "cursor": following}
        await exchange.send(answer(200, body))

    return send


# --- shards, read without writing them --------------------------------------------------------------------


async def surveyed(alli: AlliClient) -> Survey[Any]:
    """What a survey finds out about a server."""
    pages: PageReader[Any] = PageReader(alli.conversations._session, Filters(), RAW_CODEC.list_page)
    return await survey_list(pages)


async def planned(alli: AlliClient, tuning: Tuning = DEFAULT_TUNING) -> RunPlan:
    """The plan of an export of everything."""
    return (await plan_run(alli.conversations._session, Filters(), tuning=tuning)).plan


async def read_shard(
    alli: AlliClient, plan: RunPlan, shard: Shard, commits: Sequence[tuple[Shard, Commit]] = ()
) -> tuple[list[RawTranscript], ShardReader]:
    """The conversations of a shard, and the reader that has read them."""
    reader = ShardReader(
        alli.conversations._session, Filters(), shard, plan.span, plan.profile, concurrency=8, commits=commits
    )
    async with reader:
        return [each async for each in reader.transcripts()], reader


def commit_of(reader: ShardReader) -> Commit:
    """The commit that tells the last shard what a reader has read."""
    facts = reader.facts()._asdict() | {"deferred": list(reader.facts().deferred)}
    return Commit(parts=[], conversations=0, chats=0, uncompressed_bytes=0, **facts)


async def read_shards(
    alli: AlliClient, plan: RunPlan, shards: Sequence[Shard], *, before: Callable[[Shard], object] = lambda _: None
) -> list[str]:
    """The ids of the conversations in shards that are read in this order; the last shard comes last.

    The conversations that the others leave to the last shard are among them.

    Args:
        alli: Reads them.
        plan: Whose shards they are.
        shards: In the order in which they are read.
        before: Called before each is read.
    """
    found: list[str] = []
    commits: list[tuple[Shard, Commit]] = []
    for shard in shards:
        before(shard)
        transcripts, reader = await read_shard(alli, plan, shard, commits if shard.end is None else ())
        found += [each.id for each in transcripts]
        commits.append((shard, commit_of(reader)))
    return found + reader.deferred_ids()


async def crossing(alli: AlliClient, plan: RunPlan) -> dict[str, int]:
    """Conversations whose second chat lies in a later shard than their first, and the number of the first's shard.

    Without its first chat such a conversation is in the later shard.
    """
    starts = [shard.start for shard in plan.shards if shard.start is not None]
    found: dict[str, int] = {}
    async for transcript in alli.conversations.transcripts():
        if len(transcript.chats) > 1:
            first, second = (sum(each.timestamp >= start for start in starts) for each in transcript.chats[:2])
            if first < second:
                found[transcript.conversation.id] = first
    return found


async def read_last_shard(alli: AlliClient, plan: RunPlan) -> tuple[list[RawTranscript], ShardReader]:
    """The conversations of the last shard, once the others were read."""
    commits = [(shard, commit_of((await read_shard(alli, plan, shard))[1])) for shard in plan.shards[:-1]]
    return await read_shard(alli, plan, plan.shards[-1], commits)


# --- the command ------------------------------------------------------------------------------------------


def environment(exports: dict[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ALLI_")}
    return clean | exports


@contextmanager
def serving(*arguments: str) -> Iterator[dict[str, str]]:
    """A sandbox in a process of its own; gives the variables that lead to it."""
    process = subprocess.Popen(
        [*COMMAND, "sandbox", *arguments],
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(2)]
        yield dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def run(
    exports: dict[str, str], *arguments: str, prefix: tuple[str, ...] = (), measured: bool = True, **more: Any
) -> Any:
    """Run the command to its end; one that is not measured may not write what of it was covered."""
    env = environment(exports)
    is_new = bool(prefix) or not measured or any(each.startswith(("PYTHON", "ALLI_LOG")) for each in exports)
    if not is_new:
        return commands.run(*arguments, env=env, **more)
    if not measured:
        env = {name: value for name, value in env.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(
        [*prefix, *COMMAND, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        stdin=subprocess.DEVNULL,
        **more,
    )
