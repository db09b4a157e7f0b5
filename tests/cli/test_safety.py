"""What a server sends does nothing to the terminal, the spreadsheet or the browser that shows it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from alli_async.cli.terminal import console, visible, visible_json
from alli_async.cli.webpage import webpage
from alli_async.sandbox import Sandbox
from tests.support import ScriptedServer, answer, chat, conversation
from tests.support.commands import COMMAND, environment, run, run_beside, run_process, terminal

# A title that clears the screen, rings, sets the window's title, turns the text around and begins another line.
EVIL = "a\x1b[2J\x07\x1b]0;owned\x07\u202eb\x9b31m\u2028\r\nc\x7f\ufeff"
SEEN = r"a\x1b[2J\x07\x1b]0;owned\x07\u202eb\x9b31m"


def page(**changes: Any) -> bytes:
    return answer(200, {"conversations": [conversation(**changes)], "cursor": None})


def is_harmless(shown: str) -> bool:
    """Whether nothing is left that a terminal would obey, but colours and the ends of lines."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r\n", "\n")
    return not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\ufeff]", plain)


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("list", "--fields", "title"), ("get", "x")])
async def test_control_characters_are_shown_escaped_on_a_terminal(arguments: tuple[str, ...]) -> None:
    reply = answer(200, conversation(title=EVIL)) if arguments[0] == "get" else page(title=EVIL)
    async with ScriptedServer(reply) as server:
        env = environment(None, ALLI_BASE_URL=server.url, ALLI_API_KEY="k")
        command = ["conversations", *arguments]
        shown = (await asyncio.to_thread(terminal, command, env, columns=220)).decode()
    assert is_harmless(shown), repr(shown)
    if "--json" in arguments:
        assert json.loads(shown.splitlines()[0])["title"] == EVIL
    else:
        assert SEEN in shown


async def test_a_transcript_shows_control_characters_escaped_and_the_address_of_a_link() -> None:
    evil = chat(
        1, message=f"{EVIL} [bank](https://evil.example)", sender=EVIL, citations=[{"clueId": "1", "title": EVIL}]
    )
    whole = answer(200, conversation(title=EVIL, chatCount=1))
    chats = answer(200, {"chats": [evil], "pageNo": 1, "totalCount": 1})

    async def reply(exchange: Any) -> None:
        await exchange.send(chats if "/chats" in exchange.request.target else whole)

    async with ScriptedServer(default=reply) as server:
        env = environment(None, ALLI_BASE_URL=server.url, ALLI_API_KEY="k")
        command = ["conversations", "show", "x"]
        shown = (await asyncio.to_thread(terminal, command, env, columns=140)).decode()
    assert is_harmless(shown), repr(shown)
    assert "https://evil.example" in shown
    assert shown.count(SEEN) >= 3


async def test_an_error_of_the_server_shows_no_control_characters() -> None:
    async with ScriptedServer(answer(400, {"type": "APIError", "code": 7003, "message": EVIL})) as server:
        code, out, err = await run_beside("conversations", url=server.url)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert is_harmless(err)


async def test_a_pipe_gets_json_as_the_server_sent_it() -> None:
    async with ScriptedServer(page(title=EVIL, unknown={"b": 1})) as server:
        code, out, _ = await run_beside("conversations", url=server.url)
    assert code == 0
    assert json.loads(out) == conversation(title=EVIL, unknown={"b": 1})


@pytest.mark.parametrize("title", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
async def test_csv_holds_no_formulas(title: str) -> None:
    async with ScriptedServer(page(title=title)) as server:
        code, out, _ = await run_beside("conversations", "--csv", "--fields", "title", url=server.url)
    assert code == 0
    heading, row = csv.reader(io.StringIO(out))
    assert heading == ["title"]
    assert row[0].startswith("'")


@pytest.mark.parametrize(("encoding", "shown"), [("latin-1", "caf\xe9 \\u8cb8"), ("ascii", "caf\\xe9 \\u8cb8")])
async def test_an_output_that_cannot_hold_a_character_gets_it_escaped(encoding: str, shown: str) -> None:
    async with ScriptedServer(page(title="caf\xe9 \u8cb8")) as server:
        env = environment(None, ALLI_BASE_URL=server.url, ALLI_API_KEY="k", PYTHONIOENCODING=encoding)
        for arguments, expected in ((("--csv", "--fields", "title"), shown), (("--json",), "caf\\u00e9 \\u8cb8")):
            done = await asyncio.to_thread(
                subprocess.run, [*COMMAND, "conversations", *arguments], env=env, capture_output=True, timeout=90
            )
            assert done.returncode == 0, done.stderr
            assert expected.encode(encoding) in done.stdout


def test_text_that_is_harmless_is_shown_as_it_is() -> None:
    text = "Zoë 이 حداد 👩‍👩‍👧 — “quoted”\nsecond line\ttab"
    assert visible(text) == text
    assert visible_json(json.dumps(text, ensure_ascii=False).encode(), "utf-8").decode() == json.dumps(
        text, ensure_ascii=False
    )


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_a_terminal_that_wants_no_colour_gets_none(name: str) -> None:
    with Sandbox(conversations=3) as sandbox:
        env = environment(sandbox, **{name: {"NO_COLOR": "1", "TERM": "dumb"}[name]})
        shown = terminal(["conversations"], env, columns=140)
    assert not re.search(rb"\x1b\[[0-9;]*3[0-7]", shown)


@pytest.mark.parametrize("is_legacy", [True, False])
def test_a_console_of_windows_without_escape_sequences_gets_none(
    is_legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("rich.console.detect_legacy_windows", lambda: is_legacy)
    screen = console(width=40)
    with screen.capture() as captured:
        screen.print(Text("title", style="bold cyan"))
    assert ("\x1b" not in captured.get()) is is_legacy
    assert "title" in captured.get()


def test_without_a_home_and_with_the_c_locale_it_works(tmp_path: Path) -> None:
    with Sandbox(conversations=3) as sandbox:
        env = {
            name: value for name, value in environment(sandbox, LC_ALL="C").items() if name not in ("HOME", "LANG")
        }
        done = run_process("conversations", "--limit", "2", env=env)
        assert (done.returncode, done.stderr) == (0, "")
        one = json.loads(done.stdout.splitlines()[0])["id"]
        assert run_process("conversations", "show", one, env=env).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    "arguments", [("conversations",), ("export", "-", "--sandbox", "60"), ("daily", "2024-01-01", "2024-01-02")]
)
def test_a_full_disk_on_standard_output_is_one_line_and_code_1(arguments: tuple[str, ...]) -> None:
    with Sandbox(conversations=60) as sandbox, Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], env=environment(sandbox), stdout=full, stderr=subprocess.PIPE, timeout=170
        )
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert done.stderr.count(b"\n") == 1


WITHOUT_POSIX = """
import asyncio, select, sys, aiohttp
for name in ("fcntl", "termios", "pty", "uvloop", "grp", "pwd"):
    sys.modules[name] = None
del select.poll
from alli_async.cli import main
main()
"""


@pytest.mark.parametrize("arguments", [("conversations",), ("doctor",), ("export", "-", "-q")])
def test_reading_needs_nothing_that_windows_does_not_have(arguments: tuple[str, ...]) -> None:
    with Sandbox(conversations=20) as sandbox:
        done = subprocess.run(
            [COMMAND[0], "-c", WITHOUT_POSIX, *arguments],
            env=environment(sandbox),
            capture_output=True,
            text=True,
            timeout=170,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) >= 10


# --- the web page -------------------------------------------------------------------------------------------

ATTACKS = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "![x](http://127.0.0.1:9/pixel.png)",
    "[click](javascript:document.title='owned')",
    "[click](data:text/html,<script>1</script>)",
    "[click](JaVaScRiPt&#58;alert(1))",
    "<svg onload=\"document.title='owned'\"></svg>",
    "</div></article><iframe src='javascript:1'></iframe>",
    "`</code><script>document.title='owned'</script>`",
    '[a](https://a.example "x\\" onmouseover=\\"document.title=1")',
    "<style>body{display:none}</style><base href='http://127.0.0.1:9/'>",
)


def evil_record() -> dict[str, Any]:
    attack = "\n\n".join(ATTACKS)
    record = conversation(title=ATTACKS[0], memo=ATTACKS[1], categories=[ATTACKS[0]])
    citation = {"clueId": "c", "title": ATTACKS[0], "url": "javascript:alert(1)", "text": ATTACKS[1]}
    return record | {"chats": [chat(1, message=attack, sender=ATTACKS[0], citations=[citation])]}


class Elements(HTMLParser):
    """The elements of a page, with their attributes, as a browser reads them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_web_page_holds_no_element_that_the_server_sent() -> None:
    made = webpage(evil_record())
    found = Elements(made).found
    assert {tag for tag, _ in found}.isdisjoint({"script", "img", "svg", "iframe", "base", "object", "form"})
    assert not [name for _, attributes in found for name in attributes if name.startswith("on") or name == "src"]
    # An image becomes a link, which is followed only by whoever clicks it.
    links = [attributes["href"] for tag, attributes in found if tag == "a"]
    assert links == ["http://127.0.0.1:9/pixel.png", "https://a.example"]
    assert len([tag for tag, _ in found if tag == "style"]) == 1
    assert "default-src 'none'" in made


def test_a_web_page_is_written_from_a_transcript_and_needs_nothing_else(tmp_path: Path) -> None:
    with Sandbox(conversations=20) as sandbox:
        one = next(each for each in sandbox.conversation_ids() if len(sandbox.chat_ids(each)) > 2)
        page_file = tmp_path / "t.html"
        done = run("conversations", "show", one, "--html", str(page_file), sandbox=sandbox)
        assert done.returncode == 0, done.stderr
        again = run("conversations", "show", one, "--html", str(page_file), sandbox=sandbox)
        assert (again.returncode, again.stderr.count("\n")) == (2, 1)
        assert "--force" in again.stderr
        assert (
            run("conversations", "show", one, "--html", str(page_file), "--force", sandbox=sandbox).returncode == 0
        )
        made = page_file.read_text("utf-8")
        assert made.count("<article") == len(sandbox.chat_ids(one))
    assert not re.search(r'(src|href)="(?!https?://|mailto:)', made)
    assert page_file.stat().st_mode & 0o777 == 0o600


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
def test_in_a_browser_nothing_that_the_server_sent_runs(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    (tmp_path / "t.html").write_text(webpage(evil_record()), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=2000",
         f"--user-data-dir={tmp_path}/profile", (tmp_path / "t.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "<title>&lt;script&gt;document.title='owned'&lt;/script&gt;</title>" in done.stdout
    assert "<article" in done.stdout
    assert "<script" not in done.stdout
