"""The planner at up to a hundred million conversations, on a virtual clock (--full: that many).

The product's planner drives readers over rows that are never made. A request takes 1, whatever it asks for; the
bound on time is the least possible pages shared by all readers, or the pages of the largest crowd at one instant,
which nothing can share. The row that each page of an offset list repeats is not counted.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from typing import Any

from alli_async._listing.planner import Planner

from .crowds import DAY, SHAPES, Rows
from .report import Options, Result, Table, bars
from .virtual import PAGE, READERS, SLOTS, Simulation

_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
_FIRST_ROWS = 150  # what is known of a list before its partitions are planned: the rows of its first pages
_CHATS = 6  # requests for chats that a page of conversations leads to

Profile = Sequence[tuple[float, float]]


def run(options: Options) -> Result:
    """Every shape in every size; then what a profile gains where it is right, and costs where it is not."""
    largest = 100_000 if options.quick else _SIZES[-1] if options.full else 10_000_000
    sizes = [size for size in _SIZES if size <= largest]
    found = [measure(shape, size, "none") for size in sizes for shape in SHAPES]
    seeded_size = 100_000 if options.quick else 1_000_000
    seeded = [measure(shape, seeded_size, seed) for shape in SHAPES for seed in PROFILES]
    shared = [measure(shape, 100_000, "none", chats=_CHATS) for shape in SHAPES]
    tables = [
        _table("The planner alone", found),
        _table(f"With {_CHATS} requests for chats a page, sharing {SLOTS} slots", shared),
        _seed_table(seeded_size, seeded),
        bars(f"The worst shape, {largest:,} conversations", _bars(found, largest)),
    ]
    values = {"shapes": found, "with_chats": shared, "seeds": seeded}
    failures = [
        f"{each['shape']}, {each['rows']:,}, profile {each['profile']}: rows lost or repeated"
        for each in [*found, *shared, *seeded]
        if not each["whole"]
    ]
    return Result(tables, values, _drawing(found, sizes), failures)


def measure(shape: str, size: int, seed: str, *, chats: int = 0) -> dict[str, Any]:
    """Simulate one list.

    Args:
        shape: How its rows are spread.
        size: Number of rows.
        seed: Which profile the planner is given.
        chats: Requests for chats that each page leads to.
    """
    rows = Rows(size, SHAPES[shape](size))
    low, high = rows.time(0), rows.time(size - 1)
    early = rows.time(_FIRST_ROWS - 1) - low
    overlap = min(1000.0, max(1.0, (high - low) / 1e6))
    planner = Planner(
        low,
        high - 2 * overlap,
        READERS,
        overlap=overlap,
        density=_FIRST_ROWS / early if early > 0 else 0.0,
        activity=PROFILES[seed](rows.by_day()),
    )
    planner.may_cut = True
    done = Simulation(rows, planner, overlap, chats).run()
    least = math.ceil(size / PAGE)
    bound = max(least / READERS, rows.most_at_once / PAGE, (least + done.chat_requests) / SLOTS)
    print(f"{size:11,}  {shape:16} profile: {seed:12} {done.pages:,} pages", file=sys.stderr, flush=True)
    return {
        "shape": shape,
        "rows": size,
        "profile": seed,
        "pages": done.pages,
        "least_pages": least,
        "over_least": done.pages / least,
        "time": done.clock,
        "bound": bound,
        "over_bound": done.clock / bound,
        "most_ids": done.most_ids,
        "partitions": done.partitions,
        "cuts": done.cuts,
        "empty": done.empty,
        "whole": done.whole,
    }


# --- profiles ---------------------------------------------------------------------------------------------


def _noisy(profile: Profile, weights: Sequence[float]) -> Profile:
    draw = random.Random(1)
    return [(time, weight * draw.choice(weights)) for time, weight in profile]


PROFILES: dict[str, Any] = {
    "none": lambda profile: (),
    "right": lambda profile: profile,
    "a day late": lambda profile: [(time + DAY, weight) for time, weight in profile],
    "all zeros": lambda profile: [(time, 0.0) for time, _ in profile],
    "half zeros": lambda profile: _noisy(profile, [0, 1]),
    "off by 10": lambda profile: _noisy(profile, [0.1, 1, 10]),
    "first half": lambda profile: profile[: len(profile) // 2],
    "reversed": lambda profile: [
        (time, weight) for (time, _), (_, weight) in zip(profile, profile[::-1], strict=True)
    ],
}


# --- what is shown ----------------------------------------------------------------------------------------


def _table(title: str, found: Sequence[dict[str, Any]]) -> Table:
    names = (
        "shape",
        "rows",
        "pages",
        "over_least",
        "over_bound",
        "most_ids",
        "partitions",
        "cuts",
        "empty",
        "whole",
    )
    head = [name.replace("_", " ") for name in names]
    return Table(title, head, [[each[name] for name in names] for each in found])


def _seed_table(size: int, found: Sequence[dict[str, Any]]) -> Table:
    of = {(each["shape"], each["profile"]): each for each in found}
    rows = [
        [shape, *(f"{of[shape, seed]['over_least']:.3f} {of[shape, seed]['over_bound']:.2f}" for seed in PROFILES)]
        for shape in SHAPES
    ]
    return Table(
        f"Profiles, {size:,} conversations: pages over least, time over bound", ["shape", *PROFILES], rows
    )


def _bars(found: Sequence[dict[str, Any]], largest: int) -> list[tuple[str, float | None, float, bool]]:
    of_largest = [each for each in found if each["rows"] == largest]
    worst = {name: max(each[name] for each in of_largest) for name in ("over_least", "over_bound")}
    return [
        ("pages / least possible", worst["over_least"], 1.03, False),
        ("time / bound", worst["over_bound"], 1.1, False),
    ]


def _drawing(found: Sequence[dict[str, Any]], sizes: Sequence[int]) -> Any:
    def draw(figure: Any) -> None:
        panels = figure.subplots(1, 3)
        what = {"over_least": "pages / least", "over_bound": "time / bound", "most_ids": "ids kept at the most"}
        for axes, (name, title) in zip(panels, what.items(), strict=True):
            for shape in SHAPES:
                axes.plot(sizes, [each[name] for each in found if each["shape"] == shape], "o-", label=shape)
            axes.set_xscale("log")
            axes.set_xlabel("conversations")
            axes.set_title(title, fontsize=10)
        panels[2].set_yscale("log")
        panels[2].legend(fontsize=7)

    return draw
