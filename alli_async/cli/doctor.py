"""alli-async doctor: what stands between this machine and a whole export."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import cloup

from .connecting import open_client
from .options import connection_options
from .output import has_reports, show, write_report
from .runtime import asynchronous
from .terminal import holds_blocks, visible

if TYPE_CHECKING:  # The help needs none of it.
    from .checkup import Checkup


@cloup.command(
    "doctor",
    epilog="""
Examples:

\b
  alli-async doctor
  alli-async doctor --region ja --json | jq .time_unit

Exit codes: 0 all is well; 1 something must be mended (it is marked).
""",
)
@cloup.option("--json", "as_json", is_flag=True, help="Print one object of JSON.")
@connection_options
@asynchronous
async def doctor_command(*, as_json: bool, **connection: Any) -> int:
    """Check key, connection and server.

    It looks at the way to the server, at the key, and at how the server
    answers requests for lists, and says what is done about each. It only
    reads, with at most 30 requests.
    """
    from ..config import RetryPolicy
    from .checkup import Checkup, key_source
    from .connecting import certificates, checked_proxy

    checkup = Checkup(key_source(connection["api_key_file"]))
    proxy = checked_proxy(connection["proxy"], connection)
    context = certificates(connection["ca_file"], connection["client_cert"])
    # An answer that has to be waited for is a finding, and is not waited for long.
    connection |= {"middlewares": [checkup.count], "retry": RetryPolicy(max_attempts=2, patience=0.0)}
    async with open_client(connection) as client:
        await checkup.run(client, proxy, context)
    if as_json:
        import msgspec

        await write_report(msgspec.json.encode(_json(checkup)))
    elif has_reports():
        await show(_table(checkup))
    return int(any(each.must_mend for each in checkup.findings))


def _json(checkup: Checkup) -> dict[str, Any]:
    values = {each.key: each.value for each in checkup.findings}
    problems = [
        {"key": each.key, "found": each.text, "advice": each.note} for each in checkup.findings if each.must_mend
    ]
    return values | {"requests": checkup.requests, "problems": problems}


def _table(checkup: Checkup) -> Any:
    from rich.table import Table
    from rich.text import Text

    good, bad = ("✓", "✗") if holds_blocks(sys.stdout) else ("ok", "!!")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for each in checkup.findings:
        if not each.name:
            continue
        mark = Text(bad, style="bold red") if each.must_mend else Text(good, style="green")
        text = Text(visible(each.text, keep_newlines=False))
        if each.note:
            text.append(
                "\n" + visible(each.note, keep_newlines=False), style="yellow" if each.must_mend else "dim"
            )
        table.add_row(mark, each.name, text)
    wrong = sum(each.must_mend for each in checkup.findings)
    verdict = Text(f"{wrong} of these must be mended." if wrong else "All is well.", style="bold")
    table.add_row("", "", verdict)
    return table
