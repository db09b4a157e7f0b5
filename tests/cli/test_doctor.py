"""alli-async doctor: what it finds out, and that it only reads."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme

from alli_async.sandbox import Sandbox
from tests.support import ScriptedServer, answer, conversation
from tests.support.commands import environment, run, run_beside, terminal


def examined(sandbox: Sandbox, code: int = 0) -> dict[str, Any]:
    done = run("doctor", "--json", sandbox=sandbox)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_tells_how_a_well_behaved_server_answers_and_only_reads() -> None:
    with Sandbox(conversations=300) as sandbox:
        found = examined(sandbox)
        methods = {each.method for each in sandbox.received}
        assert len(sandbox.received) == found["requests"] <= 30
    assert methods == {"GET"}
    assert (
        found
        | {
            "reachable": True,
            "key_valid": True,
            "time_unit": "milliseconds",
            "cursor": "offset",
            "order_kept": True,
            "windows_kept": True,
            "bounds": "included",
            "page_cap": 50,
            "embedded_chats": 20,
            "embedded_chats_whole": True,
            "problems": [],
        }
        == found
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"unit": "s"}, {"time_unit": "seconds"}),
        ({"cursor": "keyset"}, {"cursor": "keyset"}),
        ({"first_chat_filters": "ignored"}, {"windows_kept": False}),
        ({"bounds": "open"}, {"bounds": "excluded"}),
        ({"page_cap": 20, "embed": 0}, {"page_cap": 20, "embedded_chats": 0}),
        ({"conversations": 30}, {"windows_kept": True, "order_kept": True, "cursor": None, "page_cap": None}),
        ({"conversations": 0}, {"time_unit": None, "windows_kept": None, "order_kept": None}),
        ({"embed_abridged": 5}, {"embedded_chats_whole": False}),
    ],
)
def test_it_tells_the_habits_of_a_server(options: dict[str, Any], expected: dict[str, Any]) -> None:
    with Sandbox(**{"conversations": 300, **options}) as sandbox:
        found = examined(sandbox)
    assert found | expected == found
    assert found["requests"] <= 30


def test_a_refused_key_must_be_mended() -> None:
    with Sandbox(conversations=5) as sandbox:
        done = run("doctor", "--json", env=environment(sandbox, ALLI_API_KEY="wrong-key"))
    found = json.loads(done.stdout)
    assert (done.returncode, found["reachable"], found["key_valid"]) == (1, True, False)
    assert [each["key"] for each in found["problems"]] == ["key_valid"]
    assert "ALLI_API_KEY" in found["problems"][0]["advice"]
    assert "wrong-key" not in done.stdout


def test_a_server_that_cannot_be_reached_must_be_mended() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        done = run("doctor", "--json", env=environment(None, ALLI_BASE_URL=url, ALLI_API_KEY="k"))
    found = json.loads(done.stdout)
    assert (done.returncode, found["reachable"], found["server"]) == (1, False, url)
    assert "--base-url" in found["problems"][0]["advice"]


async def test_a_clock_that_is_wrong_must_be_mended(tmp_path: Path) -> None:
    body = {"conversations": [conversation()], "cursor": None}
    late = answer(200, body, headers=[("Date", formatdate(time.time() - 3600, usegmt=True))])
    async with ScriptedServer(answer(404, {}), late) as server:
        done = await run_beside("doctor", "--json", url=server.url)
    found = json.loads(done[1])
    assert done[0] == 1
    assert found["clock_offset"] == pytest.approx(3600, abs=60)
    assert [each["key"] for each in found["problems"]] == ["clock_offset"]


async def test_the_certificate_is_looked_at(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    body: dict[str, object] = {"conversations": [], "cursor": None}
    async with ScriptedServer(default=answer(200, body), tls=context) as server:
        code, out, _ = await run_beside("doctor", "--json", "--ca-file", str(path), url=server.url)
        assert code == 0
        assert json.loads(out)["tls"]["days_left"] > 1
        code, out, _ = await run_beside("doctor", "--json", url=server.url)
    found = json.loads(out)
    assert (code, found["reachable"]) == (1, False)
    assert "--ca-file" in found["problems"][0]["advice"]


def test_on_a_terminal_every_finding_is_marked() -> None:
    with Sandbox(conversations=60) as sandbox:
        shown = terminal(["doctor"], environment(sandbox, NO_COLOR="1")).decode()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert re.search(r"✓  key +valid", shown)
    assert "All is well." in shown
    assert "✗" not in shown
