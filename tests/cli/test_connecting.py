"""How the command reaches the server: proxies, private authorities, and the size of answers."""

from __future__ import annotations

from pathlib import Path

import trustme

from tests.support import ScriptedServer, answer, conversation
from tests.support.certificates import issued
from tests.support.commands import run_beside
from tests.support.proxies import ForwardProxy

LIST = answer(200, {"conversations": [conversation()], "cursor": None})


async def test_the_command_takes_its_proxy_from_the_option_or_the_environment() -> None:
    async with ForwardProxy() as proxy, ScriptedServer(LIST) as server:
        for arguments, environ, is_used in [
            ((), {"http_proxy": proxy.url.removeprefix("http://")}, True),
            ((), {"HTTP_PROXY": proxy.url}, False),
            (("--proxy", ""), {"http_proxy": proxy.url}, False),
            (("--proxy", proxy.url), {"http_proxy": "http://127.0.0.1:1"}, True),
        ]:
            proxy.asked.clear()
            status, out, err = await run_beside("conversations", *arguments, url=server.url, **environ)
            assert (status, err) == (0, "")
            assert out.count("\n") == 1
            assert bool(proxy.asked) is is_used, (arguments, environ)


async def test_the_command_refuses_a_proxy_by_the_name_it_was_given_under() -> None:
    for arguments, environ, name in [
        (("--proxy", "socks5://me:secret@h:1"), {}, "--proxy"),
        ((), {"all_proxy": "socks5://me:secret@h:1"}, "all_proxy"),
    ]:
        status, out, err = await run_beside("conversations", *arguments, url="https://example.com", **environ)
        assert (status, out) == (2, "")
        assert err.startswith(f"alli-async: {name}: expected http://")
        assert "secret" not in err


async def test_the_command_trusts_the_authorities_of_a_file(tmp_path: Path) -> None:
    authority = trustme.CA()
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    (tmp_path / "no.pem").write_text("x")
    async with ScriptedServer(LIST, tls=issued(authority)) as server:
        assert (await run_beside("conversations", "--ca-file", str(path), url=server.url))[0] == 0
        assert (await run_beside("conversations", url=server.url, SSL_CERT_FILE=str(path)))[0] == 0
        status, _, err = await run_beside("conversations", url=server.url)
        assert status == 1
        assert "TLSError" in err
        status, _, err = await run_beside("conversations", "--ca-file", str(tmp_path / "no.pem"), url=server.url)
        assert status == 2
        assert err.startswith("alli-async: --ca-file: cannot read CA certificates (PEM) from ")


async def test_the_command_reads_answers_up_to_the_size_it_is_told() -> None:
    async with ScriptedServer(LIST) as server:
        assert (await run_beside("conversations", "--max-response-mb", "0.1", url=server.url))[0] == 0
        status, _, err = await run_beside("conversations", "--max-response-mb", "0.00001", url=server.url)
        assert status == 1
        assert "ResponseTooLargeError" in err
