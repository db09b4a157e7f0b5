"""A week of a server's life and of the nightly commands that export it, and what must be true every morning."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Literal

import pytest
from aiohttp import web

from alli_async import AlliClient, AlliError, ExportError
from alli_async.export import ExportReport, compact, verify
from alli_async.export.commit_log import read_destination
from alli_async.export.destination import FOLDERS
from alli_async.export.holdings import Holdings
from alli_async.export.storage.opening import open_store
from tests.export.support import lines_of, manifest, records
from tests.support.backend import Backend, Talk
from tests.support.exports import export_tuned
from tests.support.processes import ROOT
from tests.support.troubles import Trouble, Troubles

DAY = 86_400.0
Command = Literal["resume", "incremental", "refresh", "compact", "drop deleted", "verify"]


@dataclass(frozen=True)
class Night:
    """What happens on the server by day, what goes wrong by night, and the command of the night.

    Attributes:
        new: Number of new conversations.
        talked: Number of conversations that get another chat.
        retitled: Number of conversations that get another title.
        deleted: Number of old conversations that are deleted.
        step: Seconds by which the server's clock is off from that of other nights: less than the overlap of runs.
        command: The command.
        trouble: What goes wrong.
        after: Number of requests, or of conversations, before it goes wrong.
    """

    command: Command
    new: int = 0
    talked: int = 0
    retitled: int = 0
    deleted: int = 0
    trouble: Trouble = "none"
    after: int = 3
    step: float = 0.0


@dataclass
class Week:
    """A server, a destination, and what is known of both.

    Attributes:
        backend: The server.
        dest: The destination.
        client: Asks the server.
        skew: Seconds by which the server's clock is ahead of this machine's.
        versions: Every list of chat ids that a conversation has ever had.
        changed: Ids of the conversations that changed since the last run that was begun.
        has_run: Whether a run has ended.
        is_unfinished: Whether a run was begun that has not ended.
        dropped: Ids of the conversations that were dropped from the destination.
    """

    backend: Backend
    dest: Path
    client: AlliClient
    skew: float = 0.0
    versions: dict[str, list[list[str]]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    has_run: bool = False
    is_unfinished: bool = False
    dropped: set[str] = field(default_factory=set)

    async def live(self, night: Night) -> None:
        """Let a day and a night pass, and see in the morning that nothing is lost or untrue."""
        self._change(night)
        if night.command in ("resume", "incremental", "refresh"):
            await self._export(night)
        elif self.has_run and not self.is_unfinished:
            await self._keep(night)
        if self.has_run and not self.is_unfinished:
            await self._check_files(night)

    # --- the day ------------------------------------------------------------------------------------------

    def _change(self, night: Night) -> None:
        talks, now = self.backend.talks, time.time() + self.skew + night.step
        self.backend.date = formatdate(now, usegmt=True)
        for number in range(night.new):
            talk = Talk(f"day-{len(self.versions)}", [now - 10 + number * 0.01 + 0.001 * n for n in range(5)])
            talks[talk.id] = talk
            self._note(talk)
        for talk in list(talks.values())[: night.talked]:
            talk.chats.append(now)
            self._note(talk)
        for talk in list(talks.values())[: night.retitled]:
            talk.title += "!"
        held = self._committed() & talks.keys()
        for talk in list(talks.values())[: night.deleted]:
            # One that is held stays: without any, it may be another project.
            if held != {talk.id}:
                held.discard(talk.id)
                self.changed.add(talk.id)
                del talks[talk.id]

    def _note(self, talk: Talk) -> None:
        self.changed.add(talk.id)
        self.versions.setdefault(talk.id, []).append(talk.chat_ids())

    def begin(self, count: int) -> None:
        """Fill the server with old conversations, some of which have more chats than a list shows."""
        for chats in (2, 5):
            self.backend.add(count // 2, at=time.time() + self.skew - chats * DAY, step=60, chats=chats)
        for talk in self.backend.talks.values():
            self._note(talk)

    def _committed(self) -> set[str]:
        """The ids of the conversations in parts that have a record."""
        if not self.dest.exists():
            return set()
        runs = read_destination(open_store(self.dest), FOLDERS).runs
        held = Holdings([commit.written for state, _ in runs for commit in state.commits.values()])
        return {each for each in self.versions if each in held}

    # --- exports ------------------------------------------------------------------------------------------

    async def _export(self, night: Night) -> None:
        is_first, was_unfinished = not self.has_run, self.is_unfinished
        if not was_unfinished:
            self.changed.clear()
        if night.trouble == "killed":
            await self._kill(night)
            self._note_stop()
            if self.has_run and not self.is_unfinished:
                # It may have been killed between its last record and the manifest, which any run writes.
                assert (await export_tuned(self.client, self.dest)).finished_before
            return
        incremental, refresh = night.command == "incremental", night.command == "refresh"
        export = export_tuned(self.client, self.dest, incremental=incremental, refresh=refresh)
        task = asyncio.ensure_future(export)
        troubles = Troubles(self.backend, night.trouble, night.after, task)
        try:
            report = await task
        except (AlliError, asyncio.CancelledError):
            if night.trouble not in ("refused", "cancelled"):
                raise
            self._note_stop()
            return
        finally:
            await troubles.end()
        self.has_run, self.is_unfinished = True, False
        if report.finished_before:
            return
        self._check_run(night, report, troubles.lost, was_begun=not was_unfinished, is_first=is_first)

    def _note_stop(self) -> None:
        """Note what a run that was stopped has left: it may not have begun, and it may have ended."""
        journal = self.dest / "_journal"
        plans, ends = (len(list(journal.glob(f"run-*-{name}.json"))) for name in ("plan", "complete"))
        self.has_run, self.is_unfinished = ends > 0, plans > ends

    async def _kill(self, night: Night) -> None:
        """Run the command as a process, and kill it a moment after some of its requests."""
        program = [sys.executable, "-m", "tests.support.night", night.command, str(self.dest)]
        process = await asyncio.create_subprocess_exec(
            *program, self.backend.url, self.backend.api_key, cwd=ROOT, stderr=asyncio.subprocess.PIPE
        )
        asked, loop = 0, asyncio.get_running_loop()

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

        def instead(_: web.Request) -> None:
            nonlocal asked
            asked += 1
            if asked == night.after:
                loop.call_later(night.after % 7 * 0.004, kill)

        self.backend.instead = instead
        _, errors = await process.communicate()
        self.backend.instead = lambda _: None
        assert process.returncode in (0, -signal.SIGKILL), errors.decode()

    def _check_run(
        self, night: Night, report: ExportReport, lost: set[str], *, was_begun: bool, is_first: bool
    ) -> None:
        """See that what is called complete holds what the server has, or says what is missing."""
        held, truth = self.held(), self.backend.truth()
        told = {each.id for each in report.skipped} | self._quarantined()
        # Of a run that was begun earlier only what has not changed since can be told.
        certain = truth.keys() - (set() if was_begun else self.changed)
        wrong = {each for each in certain if held.get(each) != truth[each]}
        assert wrong <= told, (night, wrong, told)
        assert told <= lost | (self.versions.keys() if not was_begun else set()), (night, told, lost)
        if was_begun and report.kind in ("full", "refresh"):
            assert held.keys() - truth.keys() == self._deleted() & held.keys()
        if was_begun and report.kind == "refresh":
            titles = {each["id"]: each["title"] for each in records(self.dest)}
            assert all(titles[each] == self.backend.talks[each].title for each in truth.keys() - told)
        assert report.kind == "full" or not is_first or not was_begun

    # --- the files ----------------------------------------------------------------------------------------

    async def _keep(self, night: Night) -> None:
        before, deleted = self.held(), self._deleted()
        if night.trouble == "damaged" and before:
            await self._damage(night)
        elif night.trouble == "killed" and night.command != "verify":
            await self._kill(night)
        if night.command == "compact":
            await compact(self.dest)
            assert self.held() == before
        elif night.command == "drop deleted":
            await compact(self.dest, drop_deleted=True)
            assert self.held() == {each: chats for each, chats in before.items() if each not in deleted}
            self.dropped |= deleted

    async def _damage(self, night: Night) -> None:
        """Flip one bit of a part: it is found, nothing is written on, and once it is put back all is well."""
        parts = sorted((self.dest / "conversations").glob("*"))
        part = parts[night.after % len(parts)]
        good = part.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        part.write_bytes(bad)
        with pytest.raises(ExportError, match="is damaged: its SHA-256 is another"):
            await compact(self.dest)
        found = await verify(self.dest)
        assert (found.ok, found.damaged) == (False, [f"conversations/{part.name}"])
        assert part.read_bytes() == bad
        part.write_bytes(good)

    async def _check_files(self, night: Night) -> None:
        found, held = await verify(self.dest), self.held()
        assert found.ok, (night, found)
        assert (found.conversations, manifest(self.dest)["conversations"]) == (len(held), len(held))
        # Whatever is held, the server has had it once.
        assert all(chats in self.versions[each] for each, chats in held.items()), night
        assert not self._deleted() & self.backend.talks.keys(), night

    def held(self) -> dict[str, list[str]]:
        """The latest version of each conversation: the names of later runs come later."""
        return {each["id"]: [chat["id"] for chat in each["chats"]] for each in records(self.dest)}

    def _deleted(self) -> set[str]:
        path = self.dest / "deleted.jsonl"
        return {each["id"] for each in lines_of(path)} if path.exists() else set()

    def _quarantined(self) -> set[str]:
        path = self.dest / "quarantine.jsonl"
        return {each["id"] for each in lines_of(path)} if path.exists() else set()
