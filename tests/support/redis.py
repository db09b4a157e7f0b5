"""A redis-server of a test's own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .processes import free_port, wait_until_it_listens


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a redis-server that listens on a port of this machine, and keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            wait_until_it_listens(server, port)
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)
