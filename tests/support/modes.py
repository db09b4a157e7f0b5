"""The sandbox's modes that every operation and every stream is tested in."""

from __future__ import annotations

from typing import Any

from alli_async import RetryPolicy

FAULTS = ("429", "500", "reset_after", "truncated", "cut_gzip", "html", "broken_json", "slow")
MODES: list[dict[str, Any]] = [
    {},
    {"cursor": "keyset", "nulls": "first"},
    {"bounds": "open", "unit": "s"},
    {"embed": 0, "nulls": "first", "unit": "s"},
    {"embed": "all", "embed_order": "newest_first", "cursor": "keyset"},
    {"chat_count": "user", "bounds": "open"},
    {"compress": True, "embed_order": "newest_first"},
    {"retry_after": "none", "rate_limit": 2000.0, "burst": 30.0},
    {"retry_after": "date", "faults": {"503": 0.01, "reset_before": 0.05}},
    {"retry_after": "none", "faults": dict.fromkeys(FAULTS, 0.03)},
]

# Faults are many in some modes; the tests are about what comes through.
STUBBORN = RetryPolicy(base=0.001, cap=0.002, max_attempts=12, quota=100_000)


def mode_name(mode: dict[str, Any]) -> str:
    """The name of a test in this mode."""
    return (
        "-".join(f"{key}={'many' if isinstance(value, dict) else value}" for key, value in mode.items()) or "plain"
    )
