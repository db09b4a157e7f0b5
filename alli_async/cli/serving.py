"""alli-async sandbox."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

import click
import cloup

from ..sandbox.options import (
    Bounds,
    ChatCount,
    ChatTimes,
    Churn,
    Cursor,
    EmbedOrder,
    FilterNumbers,
    FirstChatFilters,
    FirstChatOrders,
    Nulls,
    Order,
    PageNo,
    RetryAfter,
    Ties,
    Unit,
)
from .failures import in_options
from .numbers import Number, WholeNumber
from .runtime import asynchronous

_SWITCHES = {
    "cursor": (Cursor, "Kind of cursors."),
    "ties": (Ties, "Whether rows with equal sort keys keep their order."),
    "order": (Order, "Whether the order asked for is used."),
    "bounds": (Bounds, "Whether time filters include their bounds."),
    "filter-numbers": (FilterNumbers, "Numbers in time filters: any, whole ones only, or cut to seconds."),
    "nulls": (Nulls, "Where conversations without chats stand."),
    "unit": (Unit, "Unit of times."),
    "embed-order": (EmbedOrder, "Order of embedded chats."),
    "page-no": (PageNo, "Whether the page number of chat pages is used."),
    "chat-times": (ChatTimes, "Whether first and last chat times follow deletions of chats."),
    "retry-after": (RetryAfter, "Form of the Retry-After header."),
    "chat-count": (ChatCount, "Which chats chatCount counts."),
    "first-chat-filters": (FirstChatFilters, "Whether filters on first chat times are used."),
    "first-chat-orders": (FirstChatOrders, "Whether orders by first chat time are served."),
}
_CHANGES = [each.name for each in fields(Churn)]


def _switches(command: Any) -> Any:
    for name, (choices, text) in reversed(_SWITCHES.items()):
        first, *_ = values = get_args(choices)
        option = click.option(f"--{name}", type=click.Choice(values), default=first, show_default=True, help=text)
        command = option(command)
    return command


def _embed(text: str) -> int | str:
    if text != "all" and not text.isdecimal():
        raise click.BadParameter(f"{text!r} is neither a whole number nor all")
    return text if text == "all" else int(text)


def _fault(text: str) -> tuple[str, float]:
    name, _, probability = text.partition("=")
    try:
        return name, float(probability)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not like 503=0.05") from None


def _change(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=") if "=" in text else ("new_chats", "=", text)
    if name not in _CHANGES or not number.isdecimal():
        raise click.BadParameter(f"{text!r} is not a number of new chats, nor NAME=N with {', '.join(_CHANGES)}")
    return name, int(number)


def make_churn(changes: tuple[tuple[str, int], ...]) -> Churn | None:
    """The churn of the values of `--churn`; None if nothing changes."""
    numbers = {"new_chats": 0, **dict(changes)}
    return Churn(**numbers) if any(numbers.values()) else None


@cloup.command(
    "sandbox",
    epilog="""
Examples:

\b
  eval "$(alli-async sandbox --conversations 500 &)"
  alli-async sandbox --fault 503=0.05 --churn 3 --port 8080
""",
)
@click.option(
    "--conversations", type=WholeNumber(min=0), default=1000, show_default=True, help="Number of conversations."
)
@click.option("--crowd", type=WholeNumber(min=0), default=0, help="Conversations that begin at one instant.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the data and of all random choices.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=WholeNumber(0, 65535), default=0, help="Port; any free one if left out.")
@click.option("--latency", type=Number(min=0), default=0.0, help="Seconds before each answer.")
@click.option("--null-last-chat", type=Number(0, 1), default=0.0, help="Share of rows without last chat time.")
@click.option(
    "--first-chat-fallback", is_flag=True, help="Use createdAt as first chat time where there is no chat."
)
@click.option("--page-cap", type=WholeNumber(min=1), help="Most conversations on a list page.")
@click.option("--ragged", is_flag=True, help="Serve list pages of random sizes.")
@click.option("--heavy-page", type=WholeNumber(min=0), help="Largest page size that is not answered 504.")
@click.option(
    "--embed",
    type=_embed,
    metavar="N|all",
    default="20",
    show_default=True,
    help='Chats in a list item, or "all".',
)
@click.option("--embed-abridged", type=WholeNumber(min=0), help="Characters of a message in embedded chats.")
@click.option("--chat-lag", type=WholeNumber(min=0), default=0, help="Newest chats that chat pages lack.")
@click.option("--rate-limit", type=Number(min=0, min_open=True), help="Requests per second.")
@click.option("--burst", type=Number(min=1), help="Requests at once, within the rate limit.")
@click.option("--max-in-flight", type=WholeNumber(min=1), help="Requests served at once.")
@click.option(
    "--fault",
    "faults",
    type=_fault,
    multiple=True,
    metavar="NAME=P",
    help="Probability of a fault; may be repeated.",
)
@click.option(
    "--churn",
    "changes",
    type=_change,
    multiple=True,
    metavar="[NAME=]N",
    help=f"Changes after each list page: {', '.join(_CHANGES)} (if no name is given, new_chats); may be repeated.",
)
@click.option("--compress", is_flag=True, help="Answer in gzip where it is accepted.")
@_switches
@asynchronous
async def sandbox_command(
    faults: tuple[tuple[str, float], ...], changes: tuple[tuple[str, int], ...], **options: Any
) -> None:
    """Serve an Alli backend of made-up conversations on this machine, until it is interrupted.

    The output can be pasted into a shell; the other commands then use this backend.
    """
    import asyncio

    from ..sandbox import Sandbox

    try:
        sandbox = Sandbox(**options, faults=dict(faults), churn=make_churn(changes))
    except ValueError as error:
        raise click.UsageError(in_options(str(error))) from None
    try:
        async with sandbox:
            click.echo(f"export ALLI_BASE_URL={sandbox.url}\nexport ALLI_API_KEY={sandbox.api_key}")
            click.echo(f"# serving {options['conversations']:,} conversations; press Ctrl-C to end", err=True)
            await asyncio.Event().wait()
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {options['host']}:{options['port']}: {error.strerror}"
        ) from None
