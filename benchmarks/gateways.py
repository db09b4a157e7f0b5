"""Real nginx (`limit_req`, `limit_conn`) and haproxy on loopback, where they are installed."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alli_async import AlliClient, AlliError

from .virtualclock import BODY

_NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  limit_req_zone $server_name zone=rate:1m rate=60r/s;
  limit_conn_zone $server_name zone=places:1m;
  limit_req_status {status}; limit_conn_status {status};
  server {{ listen 127.0.0.1:{port}; server_name limited;
    location / {{ {limit} default_type application/json; {answer} }} }}
  server {{ listen 127.0.0.1:{inner}; default_type application/json;
    location / {{ return 200 '{body}'; }} }}
}}
"""
_HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend limited
  bind 127.0.0.1:{port}
  stick-table type integer size 10 expire 1m store http_req_rate(1s)
  http-request track-sc0 int(1)
  http-request deny deny_status 429 if {{ sc0_http_req_rate gt 60 }}
  http-request return status 200 content-type application/json string '{body}'
"""
# The name, the directive, the status of a refusal, and the rate that the server was told.
_LIMITS = [
    ("nginx limit_req burst=20 nodelay, 429", "limit_req zone=rate burst=20 nodelay;", 429),
    ("nginx limit_req burst=20 nodelay, 503", "limit_req zone=rate burst=20 nodelay;", 503),
    ("nginx limit_req burst=20 (delays)", "limit_req zone=rate burst=20;", 429),
    ("nginx limit_conn 8", "limit_conn places 8;", 429),
]


def measure_gateways(*, quick: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Rates at each gateway beside those of a client that was told the limit; and what is not installed."""
    found: list[dict[str, Any]] = []
    notes = [f"{name} is not installed, and so not measured" for name in ("nginx", "haproxy") if not _find(name)]
    requests = 300 if quick else 2100
    if _find("nginx"):
        for name, limit, status in _LIMITS[:1] if quick else _LIMITS:
            with _nginx(limit, status) as port:
                found.append(_measure(name, port, requests, places=8 if "conn" in name else None))
    if _find("haproxy") and not quick:
        with _haproxy() as port:
            found.append(_measure("haproxy 60 requests in 1 s", port, requests))
    return found, notes


def _find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _measure(name: str, port: int, requests: int, *, places: int | None = None) -> dict[str, Any]:
    rate, refused, failed = asyncio.run(_call(port, requests))
    time.sleep(2)  # what the first client used of the limit is there again
    options = {"max_concurrency": places} if places else {"rate_limit": 59.5}
    told, _, _ = asyncio.run(_call(port, requests, **options))
    return {"gateway": name, "rate": rate, "told": told, "refused": refused, "failed": failed}


async def count_failed(client: AlliClient, requests: int, workers: int) -> int:
    """Make so many calls, so many at a time, and count those that fail."""
    numbers, failed = iter(range(requests)), 0

    async def work() -> None:
        nonlocal failed
        for _ in numbers:
            try:
                await client.conversations.get("a")
            except AlliError:
                failed += 1

    await asyncio.gather(*(work() for _ in range(workers)))
    return failed


async def _call(port: int, requests: int, **options: Any) -> tuple[float, int, int]:
    async with AlliClient("k" * 20, base_url=f"http://127.0.0.1:{port}", **options) as client:
        began = time.monotonic()
        failed = await count_failed(client, requests, 64)
        return (requests - failed) / (time.monotonic() - began), client.limits.refused, failed


@contextmanager
def _nginx(limit: str, status: int) -> Iterator[int]:
    port, inner = _free_port(), _free_port()
    # A place of limit_conn is held while the answer is fetched from the inner server.
    answer = f"proxy_pass http://127.0.0.1:{inner};" if "conn" in limit else f"return 200 '{BODY.decode()}';"
    if "req" in limit:  # `return` would come before the limit
        answer = f"proxy_pass http://127.0.0.1:{inner};"
    with tempfile.TemporaryDirectory() as folder:
        text = _NGINX.format(
            folder=folder, port=port, inner=inner, limit=limit, status=status, answer=answer, body=BODY.decode()
        )
        Path(folder, "nginx.conf").write_text(text, encoding="utf-8")
        yield from _served([str(_find("nginx")), "-p", folder, "-c", f"{folder}/nginx.conf"], port)


@contextmanager
def _haproxy() -> Iterator[int]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "haproxy.cfg")
        path.write_text(_HAPROXY.format(port=port, body=BODY.decode()), encoding="utf-8")
        yield from _served([str(_find("haproxy")), "-f", str(path), "-db"], port)


def _served(command: list[str], port: int) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
