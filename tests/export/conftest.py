"""What takes long to start, and is started once: an S3 server, and a cluster whose workers are processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from alli_async.sandbox import Sandbox
from tests.support.buckets import ENVIRONMENT, Front, make_bucket, s3

NUMBERS = count(1)


@pytest.fixture(scope="session")
def between() -> Iterator[Front]:
    with s3() as url, Front(url) as served:
        make_bucket(url, "bucket")
        yield served


@pytest.fixture
def front(between: Front, monkeypatch: pytest.MonkeyPatch) -> Front:
    """What an export talks to; it lets everything through until it has a rule."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
    between.reset()
    return between


@pytest.fixture
def dest(front: Front) -> str:
    """An address where nothing is yet."""
    return f"s3://bucket/a prefix/{next(NUMBERS)}"


@pytest.fixture(scope="session")
def processes(between: Front) -> Iterator[Any]:
    """A cluster of two workers that are processes; one that is killed is started again.

    In their environment they have the key of every sandbox with the default seed, and the way to the S3 server.
    """
    distributed = pytest.importorskip("distributed")
    key = Sandbox(conversations=0).api_key
    made = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        silence_logs=False,
        env={**ENVIRONMENT, "AWS_ENDPOINT_URL": between.url, "ALLI_API_KEY": key},
    )
    yield made
    made.close()
