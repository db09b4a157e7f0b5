from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from alli_async.sandbox import Churn, Sandbox


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"conversations": -1}, "conversations must be an integer from 0 to"),
        ({"conversations": 1 << 33}, "conversations must be"),
        ({"conversations": True}, "conversations must be"),
        ({"seed": "1"}, "seed must be an integer, not '1'"),
        ({"host": ""}, "host must be an address"),
        ({"host": None}, "host must be an address"),
        ({"port": 70000}, "port must be an integer from 0 to 65535, not 70000"),
        ({"latency": -0.1}, "latency must be a finite number of at least 0"),
        ({"latency": float("nan")}, "latency must be"),
        ({"latency": "1"}, "latency must be"),
        ({"cursor": "page"}, "cursor must be one of offset, keyset, relay, opaque, endless, not 'page'"),
        ({"bounds": "half"}, "bounds must be one of closed, open"),
        ({"nulls": "never"}, "nulls must be one of last, first"),
        ({"unit": "us"}, "unit must be one of ms, s"),
        ({"embed": -1}, 'embed must be an integer of at least 0 or "all", not -1'),
        ({"embed": "none"}, "embed must be"),
        ({"embed_order": ""}, "embed_order must be one of"),
        ({"retry_after": 1}, "retry_after must be one of seconds, date, none, not 1"),
        ({"chat_count": "bots"}, "chat_count must be one of"),
        ({"first_chat_filters": "refused"}, "first_chat_filters must be one of honoured, ignored"),
        ({"first_chat_orders": "ignored"}, "first_chat_orders must be one of honoured, refused"),
        ({"rate_limit": 0}, "rate_limit must be a finite number above 0, not 0"),
        ({"rate_limit": 5, "burst": 0.5}, "burst must be at least 1"),
        ({"burst": 5}, "burst must .* stand beside a rate_limit"),
        ({"max_in_flight": 0}, "max_in_flight must be an integer of at least 1"),
        ({"faults": ["500"]}, "faults must be a mapping"),
        ({"faults": {"600": 0.1}}, "faults knows 429, .*, not '600'"),
        ({"faults": {"500": -1}}, "faults\\['500'\\] must be"),
        ({"faults": {"500": 0.7, "503": 0.7}}, "faults must have probabilities that add up to at most 1"),
        ({"churn": 3}, "churn must be a Churn or None"),
        ({"ties": "random"}, "ties must be one of stable, shuffled"),
        ({"ties": "shuffled", "cursor": "keyset"}, "ties must be .stable. with cursor=.keyset."),
        ({"order": "refused"}, "order must be one of honoured, ignored"),
        ({"filter_numbers": "int"}, "filter_numbers must be one of any, whole, seconds"),
        ({"first_chat_fallback": 1}, "first_chat_fallback must be True or False, not 1"),
        ({"null_last_chat": 1.5}, "null_last_chat must be a number from 0 to 1, not 1.5"),
        ({"null_last_chat": True}, "null_last_chat must be a number from 0 to 1, not True"),
        ({"page_cap": 0}, "page_cap must be an integer of at least 1 or None, not 0"),
        ({"ragged": None}, "ragged must be True or False"),
        ({"heavy_page": -1}, "heavy_page must be an integer of at least 0 or None"),
        ({"chat_lag": None}, "chat_lag must be an integer of at least 0"),
        ({"embed_abridged": "3"}, "embed_abridged must be an integer of at least 0 or None"),
        ({"page_no": "first"}, "page_no must be one of honoured, ignored"),
        ({"chat_times": "stay"}, "chat_times must be one of follow, kept"),
        ({"compress": "gzip"}, "compress must be True or False"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sandbox(**options)


@pytest.mark.parametrize("field", [each.name for each in fields(Churn)])
def test_churn_does_not_run_backwards(field: str) -> None:
    wrong: dict[str, Any] = {field: -1}
    with pytest.raises(ValueError, match=f"Churn.{field} must be an integer of at least 0"):
        Churn(**wrong)


def test_an_option_that_there_is_not_is_refused() -> None:
    wrong: dict[str, Any] = {"conversation": 5}
    with pytest.raises(TypeError, match="conversation"):
        Sandbox(**wrong)


def test_options_may_be_at_their_bounds() -> None:
    sandbox = Sandbox(faults={"500": 0.1, "503": 0.2, "ok": 0.7}, embed=0, rate_limit=1, burst=1, max_in_flight=1)
    assert sandbox.options.latency == 0
