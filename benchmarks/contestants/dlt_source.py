"""dlt: its rest_api source for the list, its REST client for the chats that are not embedded; or our source.

Made easy for it: nested values are kept as JSON instead of being made into tables, chats are fetched by its pool
of threads, and only where they are needed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

os.environ.update(
    RUNTIME__DLTHUB_TELEMETRY="false",
    RUNTIME__LOG_LEVEL="ERROR",
    DATA_WRITER__DISABLE_COMPRESSION="true",
    NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION="true",
)

import dlt
from dlt.sources.helpers.rest_client.client import RESTClient
from dlt.sources.helpers.rest_client.paginators import PageNumberPaginator
from dlt.sources.rest_api import rest_api_resources

from . import KEY, Job

_HEADERS = {"API-KEY": KEY}


def run(job: Job) -> Callable[[], None]:
    """Get everything into JSON Lines, and read back from them what there is."""
    return partial(_run, job)


def to_duckdb(job: Job) -> Callable[[], None]:
    """Get everything into DuckDB, and ask it what there is."""
    return partial(_run_duckdb, job, lambda: _resources(job.url))


def ours_to_duckdb(job: Job) -> Callable[[], None]:
    """The same with the source of this library."""
    from alli_async.contrib.dlt import alli_source

    return partial(_run_duckdb, job, lambda: alli_source(KEY, base_url=job.url))


def _run(job: Job) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        destination = dlt.destinations.filesystem(str(folder / "out"))
        _pipeline(folder, destination).run(_resources(job.url), loader_file_format="jsonl")
        _count(folder, job)


def _run_duckdb(job: Job, source: Callable[[], Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pipeline = _pipeline(folder, dlt.destinations.duckdb(str(folder / "out.duckdb")))
        pipeline.run(source())
        with pipeline.sql_client() as connection:
            fetched = dict(connection.execute_sql("SELECT conversation_id, count(*) FROM chats GROUP BY 1"))
            for each, count in connection.execute_sql("SELECT id, chat_count FROM conversations"):
                job.tally.add(each, fetched.get(each, count))


def _pipeline(folder: Path, destination: Any) -> Any:
    return dlt.pipeline(
        "benchmark", pipelines_dir=str(folder / "pipelines"), destination=destination, dataset_name="alli"
    )


def _resources(url: str) -> list[Any]:
    (conversations,) = rest_api_resources(
        {
            "client": {"base_url": url, "headers": _HEADERS},
            "resources": [
                {
                    "name": "conversations",
                    "max_table_nesting": 0,
                    "endpoint": {
                        "path": "webapi/v2/conversations",
                        "params": {"order": "FIRST_CHAT_TIME_ASC", "pageSize": 50},
                        "data_selector": "conversations",
                        "paginator": {"type": "cursor", "cursor_path": "cursor", "cursor_param": "cursor"},
                    },
                }
            ],
        }
    )
    client = RESTClient(url, headers=_HEADERS)

    @dlt.defer
    def pages(conversation_id: str, count: int) -> Any:
        path = f"webapi/v2/conversations/{quote(conversation_id)}/chats"
        numbers = PageNumberPaginator(
            base_page=1, page_param="pageNo", total_path=None, maximum_page=-(-count // 100) + 1
        )
        found = client.paginate(path, paginator=numbers, data_selector="chats")
        return [{"conversationId": conversation_id, "chat": chat} for page in found for chat in page]

    @dlt.transformer(name="chats", data_from=conversations, max_table_nesting=0)
    def chats(listed: list[dict[str, Any]]) -> Any:
        for each in listed:
            if len(each["chats"]) < each["chatCount"]:
                yield pages(each["id"], each["chatCount"])

    return [conversations, chats]


def _count(folder: Path, job: Job) -> None:
    fetched: dict[str, int] = {}
    for row in _rows(folder / "out" / "alli" / "chats"):
        fetched[row["conversation_id"]] = fetched.get(row["conversation_id"], 0) + 1
    for row in _rows(folder / "out" / "alli" / "conversations"):
        job.tally.add(row["id"], fetched.get(row["id"]) or len(row["chats"]))


def _rows(folder: Path) -> Any:
    for file in folder.glob("*.jsonl"):
        with file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
