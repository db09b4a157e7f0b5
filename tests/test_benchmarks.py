"""The benchmarks run, and see what is lost. What they measure is not asserted: timings are no facts."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from alli_async._listing.planner import Planner
from benchmarks.backend import Backend
from benchmarks.contestants import Tally, chosen
from benchmarks.crowds import DAY, SHAPES, Rows
from benchmarks.data import Dataset, index_of
from benchmarks.report import Table, bars
from benchmarks.server import Service
from benchmarks.simulate import measure
from benchmarks.virtual import Simulation

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


def test_the_command_prints_tables_and_writes_what_it_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "percall", "--quick", "--no-plot", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    assert "aiohttp get and read" in done.stdout
    written = json.loads((tmp_path / "percall.json").read_text(encoding="utf-8"))
    assert written["quick"] is True
    assert written["values"]["calls"]["one conversation"]["ours"]["cpu"] > 0


@pytest.mark.parametrize(
    ("name", "printed"), [("lag", "Delay of other tasks"), ("start", "alli-async --help")], ids=["lag", "start"]
)
def test_what_is_felt_beside_a_stream_and_at_a_start_is_measured(name: str, printed: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--quick", "--no-plot", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
    assert json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))["values"]


def test_the_simulation_gives_every_row_of_every_shape_once() -> None:
    for shape in SHAPES:
        rows = Rows(2_000, SHAPES[shape](2_000))
        times = [rows.time(row) for row in range(2_000)]
        assert times == sorted(times)
        assert all(rows.before(time - 1) <= row < rows.up_to(time + 1) for row, time in enumerate(times))
        assert (rows.before(times[0] - DAY), rows.up_to(times[-1] + DAY)) == (0, 2_000)
        assert sum(weight for _, weight in rows.by_day()) == 2_000
        assert measure(shape, 2_000, "right", chats=6)["whole"]


def test_a_simulation_that_loses_a_row_says_so() -> None:
    rows = Rows(2_000, SHAPES["even"](2_000))
    late = Planner(rows.time(0), rows.time(1_999), 16, overlap=1.0)
    simulation = Simulation(rows, late, 1.0)
    # Whoever reaches over a cut by less than the partition beside it expects loses what lies between.
    simulation.overlap = -1e9
    assert not simulation.run().whole


def test_the_lab_of_limits_measures_a_form_beside_its_peers(tmp_path: Path) -> None:
    options = ["--quick", "--no-plot", "--only", "bucket 60/s burst 20", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "limits", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "bucket 60/s burst 20" in done.stdout
    values = json.loads((tmp_path / "limits.json").read_text(encoding="utf-8"))["values"]
    assert all(each["share"] > 0 and each["failed"] == 0 for each in values["forms"])


def test_those_who_need_no_peers_get_everything() -> None:
    with Backend(300) as backend:
        runs = {name: backend.race(name) for name in ("raw", "floor", "structs_loop")}
        least = backend.usage().least_requests
    assert {name: (run.whole, run.conversations) for name, run in runs.items()} == {
        "raw": (True, 300),
        "floor": (True, 300),
        "structs_loop": (True, 300),
    }
    assert all(run.requests >= least and run.peak_mb > 1 for run in runs.values())


def test_our_source_of_dlt_gets_everything_into_duckdb() -> None:
    pytest.importorskip("dlt", reason="dlt is not installed: pip install -e '.[recipes]'")
    with Backend(300) as backend:
        run = backend.race("dlt_ours")
    assert (run.whole, run.conversations) == (True, 300)


def test_a_tally_knows_what_is_missing_repeated_and_strange() -> None:
    data = Dataset(100)
    ids = [json.loads(data.item(index))["id"] for index in range(100)]
    tally = Tally(100)
    for each in [*ids[:98], ids[0], "no id of ours"]:
        tally.add(each, 2)
    assert (tally.conversations, tally.chats, tally.missing, tally.repeated) == (100, 200, 2, 2)


@pytest.mark.parametrize("order", ["FIRST", "LAST"])
def test_the_windows_of_a_repeated_day_hold_each_conversation_with_chats_once(order: str) -> None:
    data = Dataset(600, a_day=300)
    rows = data.window(order, None, None)
    times = [-1.0, *data.first_chat_times(7)[1:-1], 9e12]
    found = []
    for start, end in pairwise(times):
        window = data.window(order, start, end - 0.125)
        found += [data.index(order, row) for row in range(window.low, window.high)]
    assert sorted(found) == sorted(data.index(order, row) for row in range(rows.timed))
    assert sorted(data.index(order, row) for row in range(rows.high)) == list(range(600))
    assert index_of(json.loads(data.item(599))["id"], 600, a_day=300) == 599


@pytest.mark.parametrize("way", ["ASC", "DESC"])
@pytest.mark.parametrize(("by", "time"), [("FIRST", "createdAt"), ("LAST", "lastChatTime")])
def test_the_server_lists_in_the_order_asked_for(by: str, way: str, time: str) -> None:
    service = Service(Dataset(120))
    times: list[float | None] = []
    cursor: str | None = ""
    while cursor is not None:
        status, body = service.answer(
            f"/webapi/v2/conversations?order={by}_CHAT_TIME_{way}&pageSize=50&cursor={cursor}", b""
        )
        assert status == 200
        page = json.loads(body)
        times += [each[time] if each["chatCount"] else None for each in page["conversations"]]
        cursor = page["cursor"]
    timed = [each for each in times if each is not None]
    assert timed == sorted(timed, reverse=way == "DESC")
    assert times == timed + [None] * (120 - len(timed))


def test_what_is_not_there_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="no contestant nobody; there are structs"):
        chosen(["nobody"], [])
    monkeypatch.setattr("benchmarks.contestants.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="not installed: dlt; pip install --group bench"):
        chosen(["dlt"], [])


def test_a_table_lines_up_and_a_bar_says_whether_it_was_reached() -> None:
    assert str(Table("T", ("name", "seconds"), [("a", 0.5), ("long", 1234.5)])).splitlines() == [
        "T",
        "name  seconds",
        "────  ───────",
        "a       0.500",
        "long    1,234",
    ]
    rows = bars("", [("x", 2.0, 1.5, False), ("y", 2.0, 1.5, True), ("z", None, 1.0, True)]).rows
    assert [row[-1] for row in rows] == ["NO", "yes"]


def test_an_export_of_each_kind_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "export", "--quick", "--no-plot", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))["values"]
    assert {each["way"] for each in values} == {"engine", "plain", "gzip", "zstd", "parquet"}
    assert {each["distinct"] for each in values} == {1000}


def test_an_export_on_a_cluster_of_each_size_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "cluster", "--quick", "--no-plot", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "cluster.json").read_text(encoding="utf-8"))["values"]
    assert [(each["workers"], each["distinct"]) for each in values] == [(0, 1000), (1, 1000), (2, 1000)]
