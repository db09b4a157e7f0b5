"""Verification: every file of an export against the commit log, by reading alone."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec
from msgspec import Struct, field

from .._aio.threads import in_thread
from .._version import __version__
from ..errors import ConfigurationError
from .commit_log import Problem, Recovered, RunLog, read_destination
from .destination import FOLDERS
from .holdings import Holdings
from .manifest import manifest_files
from .reading import DamagedError, rows_in, versions_of
from .records import Commit, ExportSpec, Part
from .storage.opening import open_store
from .storage.store import JOURNAL, MissingError, Store

# How often an export is read from the beginning because another process has changed it meanwhile.
_MOST_READINGS = 3


class VerifyReport(Struct, kw_only=True):
    """Whether an export is what its commit log says.

    Attributes:
        ok: Whether there is a complete run, and nothing is damaged, missing or unexplained. Conversations that a
            run could not make whole are no fault of the files: the manifest lists them.
        parts: How many parts were read.
        conversations: Distinct conversations in these parts.
        chats: Chats in the latest versions of these conversations.
        damaged: Files whose content is not what was written, parts and records alike.
        missing: Files that were written and are not there.
        unexplained: Files that no record explains. Nothing removes them.
        reasons: What is wrong with each of these files, by its name.
    """

    ok: bool
    parts: int
    conversations: int
    chats: int
    damaged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


async def verify(dest: str | os.PathLike[str]) -> VerifyReport:
    """Read every part of an export, and compare it with the commit log.

    Each part is compared with its size, its SHA-256 and its number of rows, its conversations and chats with what
    its commit says, and the shards of each run with the span of its plan. Nothing is written, and nothing is
    locked: an export may be under way, whose unfinished run is looked at as far as it is. Nothing is asked of the
    server.

    Args:
        dest: The directory, or the address in an object store.

    Raises:
        ConfigurationError: There is no export.
        ExportError: The file system or the store refuses.
    """
    store = open_store(dest)
    if not await in_thread(_is_export, store):
        raise ConfigurationError(f"{store} holds no export")
    found: Recovered = await in_thread(read_destination, store, FOLDERS)
    runs, problems = await _read_parts(store, found)
    for _ in range(_MOST_READINGS - 1):
        before, found = found, await in_thread(read_destination, store, FOLDERS)
        if not problems or _is_same(before, found):
            break
        runs, problems = await _read_parts(store, found)
    return await in_thread(_report, store, runs, problems)


async def _read_parts(store: Store, found: Recovered) -> tuple[list[RunLog], list[Problem]]:
    """Read every part of a destination. Returns its runs, and what is wrong with them."""
    problems = list(found.problems)
    runs = [
        RunLog(store, state, end) for state, end in found.runs if end is not None or state.plan.kind != "compact"
    ]
    known = {each.file for each in problems}
    for commit in (commit for run in runs for commit in run.state.commits.values()):
        problems += await in_thread(_check_commit, store, found.spec, commit, known)
    ended = [run for run in runs if run.complete is not None]
    if not ended:
        problems.append(Problem("missing", "manifest.json", "is not written yet: no run is complete"))
    elif found.spec is not None and not problems:
        problems += await in_thread(_check_manifest, store, found.spec, ended)
    return runs, problems


def _is_export(store: Store) -> bool:
    return any(name.endswith(".json") for name in store.names(JOURNAL))


def _is_same(one: Recovered, other: Recovered) -> bool:
    """Whether no other process has written or removed anything that counts."""
    runs = [[(state.plan.run, sorted(state.commits), end) for state, end in each.runs] for each in (one, other)]
    return runs[0] == runs[1] and one.problems == other.problems


def _check_commit(store: Store, spec: ExportSpec | None, commit: Commit, known: set[str]) -> list[Problem]:
    """Read the parts of a commit, except those that are known to be damaged."""
    # The last part first: in the first one are the conversations, which are counted with it.
    parts = [part for part in reversed(commit.parts[1:]) if part.name not in known]
    problems = [problem for part in parts for problem in _check_part(store, part)]
    first = commit.parts[0].name if commit.parts else ""
    if problems or any(part.name in known for part in commit.parts):
        return problems
    try:
        there = Holdings([versions_of(store, commit)])
    except DamagedError as error:
        return [Problem("damaged", error.part, error.why)]
    except MissingError:
        return [Problem("missing", first, "is gone")]
    # Chats can be left out of the conversations.
    has_chats = spec is None or spec.fields.is_everything
    if there.conversations != commit.conversations or (has_chats and there.chats != commit.chats):
        why = (
            f"has {there.conversations:,} conversations and {there.chats:,} chats, "
            f"not {commit.conversations:,} and {commit.chats:,}"
        )
        return [Problem("damaged", first, why)]
    if commit.written and list(Holdings([commit.written]).keys()) != list(there.keys()):
        return [Problem("damaged", first, "has other conversations than its record says")]
    return []


def _check_part(store: Store, part: Part) -> Iterable[Problem]:
    try:
        rows = rows_in(store, part)
    except DamagedError as error:
        yield Problem("damaged", part.name, error.why)
    except MissingError:
        yield Problem("missing", part.name, "is gone")
    else:
        if rows != part.rows:
            yield Problem("damaged", part.name, f"has {rows:,} rows, not {part.rows:,}")


def _check_manifest(store: Store, spec: ExportSpec, ended: list[RunLog]) -> list[Problem]:
    """The manifest, and the files that belong to it, say what the records say."""
    there = store.names("")
    try:
        manifest = msgspec.json.decode(store.read("manifest.json"), type=dict[str, object])
    except MissingError:
        return [Problem("missing", "manifest.json", "is gone; the next run writes it anew")]
    except ValueError as error:
        return [Problem("damaged", "manifest.json", f"cannot be read: {error}; the next run writes it anew")]
    if manifest.get("sdk_version") != __version__:
        return []  # another version may tell the same in other words
    problems = []
    commits = [run.state.commits[name] for run in ended for name in sorted(run.state.commits)]
    for name, data in manifest_files(spec, ended, _holdings_of(store, commits)).items():
        if data and name not in there:
            problems.append(Problem("missing", name, "is gone; the next run writes it anew"))
        elif name in there and store.read(name) != data:
            problems.append(Problem("damaged", name, "is not what the records say; the next run writes it anew"))
    return problems


def _holdings_of(store: Store, commits: Iterable[Commit]) -> Holdings:
    """The conversations in the parts of commits, the oldest first."""
    return Holdings([commit.written or versions_of(store, commit) for commit in commits])


def _report(store: Store, runs: list[RunLog], problems: list[Problem]) -> VerifyReport:
    by_kind: dict[str, list[str]] = {"damaged": [], "missing": [], "unexplained": []}
    for each in problems:
        by_kind[each.kind].append(each.file)
    faulty = {each.file for each in problems}
    good = [commit for run in runs for commit in run.state.commits.values()]
    good = [commit for commit in good if not any(part.name in faulty for part in commit.parts)]
    holdings = _holdings_of(store, good)
    return VerifyReport(
        ok=not problems,
        parts=sum(len(run.parts) for run in runs),
        conversations=holdings.conversations,
        chats=holdings.chats,
        reasons={each.file: each.why for each in problems},
        **by_kind,
    )
