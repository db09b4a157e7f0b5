"""Emulators of Azure's and Google's object stores, on loopback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import format_datetime, formatdate
from typing import Any, NamedTuple
from urllib.parse import quote
from urllib.request import Request, urlopen
from xml.sax.saxutils import escape

import pytest
from aiohttp import ClientSession, web
from yarl import URL

# The account that every Azurite has; its key is public.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Cloud(NamedTuple):
    """An object store.

    Attributes:
        address: Where exports are kept, without the last part of it.
        environment: The variables that lead obstore there.
    """

    address: str
    environment: dict[str, str]


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@contextmanager
def azure() -> Iterator[Cloud]:
    """Azurite, in a process; skips where it is not installed."""
    command = shutil.which("azurite-blob")
    if command is None:
        pytest.skip("azurite is not installed (npm install -g azurite)")
    port = _free_port()
    options = ["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    process = subprocess.Popen(
        [command, *options, "--blobHost", "127.0.0.1", "--blobPort", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        url = f"http://127.0.0.1:{port}"
        _make_container(url, "container")
        environment = {
            "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": url,
        }
        yield Cloud("az://container/a prefix", environment)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return


def _make_container(url: str, name: str) -> None:
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    canonical = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
    text = "PUT\n" + "\n" * 11 + canonical + f"/{_ACCOUNT}/{_ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(_KEY), text.encode(), hashlib.sha256)).decode()
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{signature}"
    asked = Request(f"{url}/{_ACCOUNT}/{name}?restype=container", method="PUT", headers=headers)
    with urlopen(asked, timeout=30) as answer:
        assert answer.status == 201


@contextmanager
def google() -> Iterator[Cloud]:
    """gcp-storage-emulator, in a thread, behind Google's XML API, which it lacks and obstore speaks."""
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
    port = _free_port()
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    front = _XmlApi(f"http://127.0.0.1:{port}")
    try:
        with front.served() as url:
            key = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": ""}
            environment = {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(key | {"private_key_id": ""})}
            yield Cloud("gs://bucket/a prefix", environment)
    finally:
        server.stop()


class _XmlApi:
    """Google's XML API before its JSON API: objects with generations, conditional writes, lists.

    Args:
        behind: The URL of the JSON API.
    """

    def __init__(self, behind: str) -> None:
        self._behind = behind
        self._ended = asyncio.Event()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve it in a thread; gives its URL."""
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(started)), daemon=True)
        thread.start()
        assert started.wait(30)
        try:
            yield self._url
        finally:
            self._loop.call_soon_threadsafe(self._ended.set)
            thread.join(30)
            self._loop.close()

    async def _serve(self, started: threading.Event) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{bucket}", self._list)
        app.router.add_route("*", "/{bucket}/{name:.+}", self._object)
        self._turn = asyncio.Lock()
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        async with ClientSession() as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            started.set()
            await self._ended.wait()
            await runner.cleanup()

    async def _json(self, path: str, **query: str) -> dict[str, Any] | None:
        url = URL(f"{self._behind}/storage/v1/b/bucket/o{path}", encoded=True).update_query(query)
        async with self._session.get(url) as answer:
            found: dict[str, Any] | None = await answer.json() if answer.status == 200 else None
            return found

    async def _list(self, request: web.Request) -> web.Response:
        query = {name: request.query[name] for name in ("prefix", "delimiter") if name in request.query}
        found = await self._json("", **query) or {}
        contents = "".join(
            f"<Contents><Key>{escape(each['name'])}</Key><LastModified>{each['updated']}</LastModified>"
            f"<ETag>{each['generation']}</ETag><Size>{each['size']}</Size></Contents>"
            for each in found.get("items", [])
        )
        folders = "".join(
            f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>"
            for each in found.get("prefixes", [])
        )
        return web.Response(text=f"<ListBucketResult>{contents}{folders}</ListBucketResult>")

    async def _object(self, request: web.Request) -> web.Response:
        name = quote(request.match_info["name"], safe="")
        async with self._turn:
            there = await self._json(f"/{name}")
            if request.method == "PUT":
                wanted = request.headers.get("x-goog-if-generation-match")
                if wanted is not None and wanted != (there["generation"] if there else "0"):
                    return web.Response(status=412, text="<Error><Code>PreconditionFailed</Code></Error>")
                url = f"{self._behind}/upload/storage/v1/b/bucket/o?uploadType=media&name={name}"
                async with self._session.post(URL(url, encoded=True), data=await request.read()) as answer:
                    assert answer.status == 200
                there = await self._json(f"/{name}")
                assert there is not None
                return web.Response(headers=self._headers(there))
            if there is None:
                return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
            url = f"{self._behind}/storage/v1/b/bucket/o/{name}"
            if request.method == "DELETE":
                async with self._session.delete(URL(url, encoded=True)):
                    return web.Response(status=204)
            if request.method == "HEAD":
                return web.Response(headers=self._headers(there) | {"Content-Length": there["size"]})
            async with self._session.get(URL(f"{url}?alt=media", encoded=True)) as answer:
                return web.Response(body=await answer.read(), headers=self._headers(there))

    @staticmethod
    def _headers(found: dict[str, Any]) -> dict[str, str]:
        when = datetime.fromisoformat(found["updated"])
        return {
            "ETag": f'"{found["generation"]}"',
            "x-goog-generation": found["generation"],
            "Last-Modified": format_datetime(when, usegmt=True),
        }
