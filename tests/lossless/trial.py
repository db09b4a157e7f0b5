"""Runs one case: a sandbox, a client, a reader, and the judge."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alli_async import AlliClient, ExportError, RetryPolicy
from alli_async.sandbox import Sandbox

from .case import Case, FilterChoice, place
from .excuses import excuse
from .history import HUGE_BYTES, History, apply, prepare
from .judge import Complaint, Evidence, judge
from .readers import Given, Reading, read
from .truth import Truth, Witness, pairs_of

# More attempts than a case has faults, so that no fault is a reason to fail; and an outage, which no case has, is
# noticed soon.
_PATIENCE: dict[str, Any] = {"patience": 5.0} if hasattr(RetryPolicy, "patience") else {}
_RETRY = RetryPolicy(base=0.001, cap=0.01, max_attempts=12, quota=100_000, **_PATIENCE)
_USERS = 40


def run(case: Case) -> list[Complaint]:
    """Run a case in an event loop of its own."""
    return asyncio.run(_Trial(case).run())


class _Trial:
    def __init__(self, case: Case) -> None:
        self._case = case
        self._earlier: dict[str, Given] = {}
        self._unlisted: list[None] = []

    async def run(self) -> list[Complaint]:
        options: dict[str, Any] = {"retry_after": "none", **self._case.server}
        with tempfile.TemporaryDirectory() as folder:
            async with Sandbox(**options) as sandbox:
                witness = Witness(sandbox)
                filters = filters_of(self._case, witness)
                witness.filter_by(pairs_of(filters))
                self._marked = prepare(witness, self._case)
                self._shown = _shown_ids(self._case, self._marked)
                return await self._read(witness, filters, Path(folder) / "export")

    async def _read(self, witness: Witness, filters: dict[str, Any], dest: Path) -> list[Complaint]:
        case, history = self._case, History(witness)
        huge = any(mark.what == "huge" for mark in case.marks)
        limits = {"max_response_bytes": HUGE_BYTES} if huge else {}
        url, key = witness.sandbox.url, witness.sandbox.api_key
        async with AlliClient(key, base_url=url, retry=_RETRY, **limits) as client:  # type: ignore[arg-type]
            whole = witness.watch()
            history.schedule(case.history)
            complaints, reading = await self._once(witness, client, filters, dest)
            if case.reader.kind == "incremental" and reading.error is None and not complaints:
                complaints = await self._incremental(witness, history, whole, client, filters, dest)
        if history.failure is not None:
            raise history.failure
        return complaints

    async def _once(
        self, witness: Witness, client: AlliClient, filters: dict[str, Any], dest: Path
    ) -> tuple[list[Complaint], Reading]:
        truth = witness.watch()
        reading = await self._reading(witness, client, filters, dest)
        witness.close(truth)
        complaints = self._judge(witness, truth, reading, truth.steady)
        shown = {self._shown.get(each.id, each.id): each for each in reading.given}
        self._earlier = shown
        self._unlisted = [each for each in reading.reported if each is None]
        return complaints, reading

    async def _incremental(
        self,
        witness: Witness,
        history: History,
        whole: Truth,
        client: AlliClient,
        filters: dict[str, Any],
        dest: Path,
    ) -> list[Complaint]:
        """Change the data, and export what is new; the versions of both runs make up the export."""
        for change in self._case.between:
            apply(witness, change)
        truth = witness.watch()
        truth.include(whole)  # conversations that were given in the first run need not match any more
        history.schedule(self._case.later)
        reading = await self._reading(witness, client, filters, dest)
        # A row that could not be listed was reported by the first run. One that has lost its chats since is in no
        # span that could be read again.
        reading.reported += self._unlisted
        witness.close(truth)
        witness.close(whole)
        if isinstance(reading.error, ExportError) and not set(self._earlier) & set(truth.start):
            return []  # nothing is left by which the project could be known again
        gained = {each for each in whole.gained & truth.steady if _has_new_chat(whole, truth, each)}
        return self._judge(witness, truth, reading, (whole.steady & truth.steady) | gained)

    async def _reading(self, witness: Witness, client: AlliClient, filters: dict[str, Any], dest: Path) -> Reading:
        before = witness.sandbox.count()
        reading = await read(self._case.reader.kind, client, filters, dest)
        reading.requests = witness.sandbox.count() - before
        return reading

    def _judge(self, witness: Witness, truth: Truth, reading: Reading, required: set[str]) -> list[Complaint]:
        allowed = excuse(self._case, witness, truth, self._marked)
        if self._case.reader.kind == "list" and not self._list_is_whole():
            required = set()
            reading.given = [*{each.id: each for each in reading.given}.values()]
        return judge(Evidence(self._case, truth, reading, allowed, required, self._shown, self._earlier))

    def _list_is_whole(self) -> bool:
        """Whether the server's own pages hold each conversation once."""
        server = self._case.server
        return self._case.is_quiet and server.get("ties") != "shuffled" and server.get("cursor") != "endless"


def _has_new_chat(whole: Truth, truth: Truth, conversation_id: str) -> bool:
    """Whether a chat came after the first run began, and was there while the second one read."""
    stayed = set(truth.start[conversation_id]).intersection(truth.end[conversation_id])
    return bool(stayed.difference(whole.start.get(conversation_id, ())))


def _shown_ids(case: Case, marked: Mapping[str, str]) -> dict[str, str]:
    values = [mark.value for mark in case.marks if mark.what == "id"]
    return dict(zip(values, (each for each, what in marked.items() if what == "id"), strict=False))


def filters_of(case: Case, witness: Witness) -> dict[str, Any]:
    """The filters of the reader, with values taken from conversations."""
    ids = witness.sandbox.conversation_ids()
    filters: dict[str, Any] = {}
    for choice in case.reader.filters:
        value = _value(choice, ids, witness, is_whole=case.server.get("filter_numbers") == "whole")
        if value is not None:
            filters[choice.name] = value
    for start, end in (("started_at", "end_at"), ("first_chat_started_at", "first_chat_end_at")):
        if start in filters and end in filters:
            filters[start], filters[end] = sorted((filters[start], filters[end]))
    return filters


def _value(choice: FilterChoice, ids: list[str], witness: Witness, *, is_whole: bool) -> Any:
    """The value of a filter that selects the conversation at the position; None if it has no such value."""
    if not ids:
        return None
    chosen = ids[place(choice.at, len(ids))][0]
    row = witness.row(chosen)
    match choice.name:
        case "active_only":
            return True
        case "background_running":
            return choice.at < 500
        case "user_ids":
            rows = [witness.row(each) for each in ids[place(choice.at, len(ids), min(_USERS, len(ids)))]]
            return sorted({each["user"]["userId"] for each in rows if each["user"]}) or None
        case "llm_app_id":
            return row["llmApp"] and row["llmApp"]["id"]
        case "category_id":
            return row["categories"][0] if row["categories"] else None
        case "search_term":
            return row["title"].split()[0] if row["title"] else None
    moment = witness.times("first" if choice.name.startswith("first") else "last")[chosen]
    return moment if moment is None or not is_whole else int(moment)
