"""How many conversations an export asks for at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from alli_async import ConfigurationError
from alli_async.export import export, plan_export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import chats_by_id, truth


@pytest.mark.parametrize("name", ["all", "all.jsonl"])
async def test_no_page_is_larger_than_asked_for(make_client: ClientFactory, tmp_path: Path, name: str) -> None:
    sizes: set[int] = set()

    async def look(request: Any, call_next: Any) -> Any:
        asked = parse_qs(request.query)
        sizes.update(map(int, asked.get("pageSize", [])))
        return await call_next(request)

    async with Sandbox(conversations=300) as sandbox:
        alli = make_client(sandbox, middlewares=[look])
        report = await export(alli, tmp_path / name, page_size=20)
        assert report.conversations == 300
        if name == "all":
            assert chats_by_id(tmp_path / name) == truth(sandbox)
    assert max(sizes) == 20


@pytest.mark.parametrize("size", [0, 51, -1, 2.5, True, "10", None])
async def test_a_size_that_no_page_has_is_refused_before_anything_is_sent(
    make_client: ClientFactory, tmp_path: Path, size: Any
) -> None:
    async with Sandbox(conversations=10) as sandbox:
        alli = make_client(sandbox)
        for call in (export, plan_export):
            with pytest.raises(ConfigurationError, match="page_size: expected a whole number from 1 to 50"):
                await call(alli, tmp_path / "all", page_size=size)
        assert sandbox.count() == 0
        assert list(tmp_path.iterdir()) == []
