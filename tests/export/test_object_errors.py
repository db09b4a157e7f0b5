"""What an object store, its address or its environment refuses: one line, without a secret."""

from __future__ import annotations

import sys

import pytest

from alli_async import ConfigurationError, ExportError
from alli_async.export import compact, export
from alli_async.export.storage.object_errors import store_refusals
from alli_async.export.storage.object_store import ObjectStore, ObjectTuning, Patience
from alli_async.export.storage.opening import open_store
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import run
from tests.support.buckets import ENVIRONMENT, Front, objects


async def test_a_bucket_that_is_not_there_is_one_line_before_anything_is_asked(
    make_client: ClientFactory, front: Front
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        line = r"^cannot write s3://nowhere/x/_journal/lock: no such bucket \(404 NoSuchBucket\)$"
        with pytest.raises(ExportError, match=line):
            await export(make_client(sandbox), "s3://nowhere/x")
        assert sandbox.count() == 0
    with pytest.raises(ExportError, match=r"^cannot read s3://nowhere/x/_journal: no such bucket"):
        await compact("s3://nowhere/x")


def test_a_full_disk_for_the_parts_on_their_way_is_one_line(dest: str) -> None:
    # Coverage would write its own data beyond the limit.
    limited = ("bash", "-c", 'ulimit -f 100; unset COVERAGE_PROCESS_CONFIG COVERAGE_PROCESS_START; exec "$@"', "-")
    done = run({}, "export", dest, "--sandbox", "200", "--compression", "none", prefix=limited)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "cannot write the temporary file of s3://bucket/" in done.stderr
    assert "File too large" in done.stderr


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "the store cannot be reached, or hung up"),
        ({"AWS_ALLOW_HTTP": "false"}, "an endpoint without TLS must be allowed (AWS_ALLOW_HTTP=true)"),
    ],
)
def test_why_a_store_cannot_be_reached_is_said_in_a_line(
    dest: str, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], why: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ExportError) as raised:
        open_store(dest).lock().__enter__()
    assert str(raised.value) == f"cannot write {dest}/_journal/lock: {why}"


@pytest.mark.parametrize(
    ("status", "why"), [(418, "the store answered 418 InternalError"), (503, "the store is too busy")]
)
def test_what_a_store_answers_is_said_in_a_line(dest: str, front: Front, status: int, why: str) -> None:
    store = ObjectStore(dest, tuning=ObjectTuning(patient=Patience(seconds=1, retries=12)))
    front.rule = lambda *_: status
    with pytest.raises(ExportError, match=why):
        store.read("x")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            (400, "<Code>AuthorizationHeaderMalformed</Code><Message>the-secret-key</Message>"),
            "the bucket is in another region (AWS_REGION), or elsewhere (400 AuthorizationHeaderMalformed)",
        ),
        ((301, "<Code>PermanentRedirect</Code>"), "the bucket is in another region (AWS_REGION), or elsewhere"),
        (
            (400, "<Code>ExpiredToken</Code><Token-0>the-secret-key</Token-0>"),
            "the credentials have expired (400 ExpiredToken)",
        ),
        (
            (403, "<Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>the-access-key</AWSAccessKeyId>"),
            "permission denied (403 SignatureDoesNotMatch)",
        ),
        ((200, "<html>hello</html>"), "what answers there is no such store"),
    ],
)
async def test_a_store_that_cannot_be_used_is_one_line_without_a_secret_before_anything_is_asked(
    make_client: ClientFactory, front: Front, dest: str, answer: tuple[int, str], why: str
) -> None:
    front.rule = lambda *_: answer
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ExportError) as raised:
            await export(make_client(sandbox), dest)
        assert str(raised.value) == f"cannot write {dest}/_journal/lock: {why}"
        assert sandbox.count() == 0


def test_a_folder_that_may_not_be_listed_is_said_in_a_line(dest: str, front: Front) -> None:
    front.rule = lambda *_: 403
    with pytest.raises(
        ExportError, match=r"^cannot read s3://\S+ \S+/_journal: permission denied \(403 AccessDen"
    ):
        open_store(dest).names("_journal")


def test_a_disk_error_during_an_upload_is_told_as_a_disk_error() -> None:
    with (
        pytest.raises(ExportError, match=r"^cannot write here: Input/output error$"),
        store_refusals("write", "here"),
    ):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("s3://the-key:the-secret@bucket/x", "credentials belong in the environment"),
        ("s3://the-key@bucket/x", "credentials belong in the environment"),
        ("az://bucket/x?sig=the-secret", "credentials belong in the environment"),
        ("s3://bucket/x#the-secret", "credentials belong in the environment"),
        ("s3://[bucket/x", "no address; expected s3://bucket/prefix"),
        ("s3:/bucket/x", "has lost a slash; give an address as a string, not as a Path"),
        ("s3://bucket/all.jsonl.gz", "named like a file"),
        ("memory:///x", "no object store that can be held"),
        ("https://example.com/x", "no object store that can be held"),
        ("ftp://bucket/x", "cannot be used: expected an address like s3://bucket/prefix"),
        ("s3://", "cannot be used: expected an address like s3://bucket/prefix"),
        ("az://container/x", "needs AZURE_STORAGE_ACCOUNT_NAME"),
        ("file://elsewhere/x", "no path of this machine; expected file:///path"),
    ],
)
async def test_an_address_that_cannot_be_right_is_refused_before_anything_is_sent(
    make_client: ClientFactory, front: Front, address: str, why: str
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError) as raised:
            await export(make_client(sandbox), address)
        assert str(raised.value).startswith("dest: ")
        assert why in str(raised.value)
        assert "the-" not in str(raised.value)
        assert sandbox.count() == len(front.asked) == 0


async def test_without_obstore_the_error_names_the_extra(
    make_client: ClientFactory, dest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError, match=r"needs obstore: pip install 'alli-async\[objectstore\]'"):
            await export(make_client(sandbox), dest)
        assert sandbox.count() == 0


async def test_no_credential_is_in_a_report_an_object_or_a_log(
    make_client: ClientFactory, front: Front, dest: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with Sandbox(conversations=20) as sandbox:
        report = await export(make_client(sandbox), dest)
        front.rule = lambda *_: 403
        with pytest.raises(ExportError) as raised:
            await export(make_client(sandbox), dest)
        front.rule = lambda *_: None
        seen = f"{report} {raised.value!r} {objects(dest)} {caplog.text}"
        assert not any(ENVIRONMENT[name] in seen for name in ENVIRONMENT if name.endswith(("_ID", "_ACCESS_KEY")))
