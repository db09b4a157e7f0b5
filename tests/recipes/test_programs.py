"""The recipes that are neither web apps nor workers: a script, a notebook, a sync caller, and tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from alli_async import NotFoundError
from alli_async.sandbox import Sandbox
from tests.recipes.sync_caller import each, sync_client
from tests.support.processes import ROOT, environment_of, running

FOLDER = Path(__file__).parent


RECIPES = sorted(
    path
    for path in (*FOLDER.glob("*.py"), *FOLDER.glob("*.ipynb"))
    if not re.match(r"test_(?!your)|conftest|__", path.name)
)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_each_recipe_is_short_and_linked_from_the_readme(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) < 80
    assert f"(tests/recipes/{path.name})" in (ROOT / "README.md").read_text("utf-8")


async def test_the_script_titles_what_has_no_title_and_goes_on_past_an_error() -> None:
    with Sandbox(conversations=0) as sandbox:
        app = {"id": "app-1", "name": "App", "description": None}
        for number in range(60):
            question = f"Question {number}?\nMore of it"
            sandbox.put({"id": f"c-{number}", "llmApp": app, "title": ""}, chats=[question, "An answer."])
        sandbox.put({"id": "titled", "llmApp": app, "title": "Kept"}, chats=["Hello"])
        sandbox.put({"id": "silent", "llmApp": app, "title": ""}, chats=[" \n", "An answer."])
        sandbox.script("updateConversationTitle", [404], id="c-7")
        for expected in ("59 titles given, 1 failed", "1 titles given, 0 failed"):
            with running("tests.recipes.script", "app-1", environment=environment_of(sandbox)) as script:
                assert await script.ended() == 0, script.output
                assert expected in script.output
        with sync_client(api_key=sandbox.api_key, base_url=sandbox.url) as (alli, call):
            assert call(alli.conversations.get, "c-7").title == "Question 7?"
            assert call(alli.conversations.get, "titled").title == "Kept"


def test_threads_share_the_client_of_a_sync_caller_and_leaving_a_stream_ends_it() -> None:
    with Sandbox(conversations=200) as sandbox:
        ids = sandbox.conversation_ids()
        with sync_client(api_key=sandbox.api_key, base_url=sandbox.url) as (alli, call):
            with ThreadPoolExecutor(8) as threads:
                found = list(threads.map(lambda each_id: call(alli.conversations.get, each_id).id, ids))
            assert found == ids
            assert sorted(one.id for one in each(call, alli.conversations.list())) == sorted(ids)
            for transcript in each(call, alli.conversations.transcripts()):
                assert transcript.id in ids
                break
            with pytest.raises(NotFoundError):
                call(alli.conversations.get, "bm9ib2R5")
        assert sandbox.in_flight == 0
    assert threading.active_count() < 20


@pytest.mark.slow
def test_the_cells_of_the_notebook_run_in_a_real_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in ("nbclient", "ipykernel"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install -e '.[recipes]'")
    with Sandbox(conversations=120) as sandbox:
        for name, value in environment_of(sandbox).items():
            monkeypatch.setenv(name, value)
        chats = sum(len(sandbox.chat_ids(one)) for one in sandbox.conversation_ids())
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", RUN], capture_output=True, text=True, timeout=170, check=False
        )
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert first.startswith("ConversationPage(")
    assert len(first) < 300
    assert second == f"(120, {chats})"


# In a process of its own: nbclient brings an event loop and warnings with it.
RUN = f"""
import json, nbclient, nbformat
notebook = nbformat.read({str(FOLDER / "notebook.ipynb")!r}, 4)
nbclient.NotebookClient(notebook, timeout=120).execute()
outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
print(json.dumps([each[0].data["text/plain"] for each in outputs if each]))
"""
