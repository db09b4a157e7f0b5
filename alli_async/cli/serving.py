"""alli-async sandbox."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import click

from ..sandbox.options import (
    Bounds,
    ChatCount,
    Cursor,
    EmbedOrder,
    FirstChatFilters,
    FirstChatOrders,
    Nulls,
    RetryAfter,
    Unit,
)
from .runtime import asynchronous

_SWITCHES = {
    "cursor": (Cursor, "What a cursor is: an offset, or the last row's place."),
    "bounds": (Bounds, "Whether time filters include their bounds."),
    "nulls": (Nulls, "Where conversations without chats stand."),
    "unit": (Unit, "The unit of times."),
    "embed-order": (EmbedOrder, "The order of embedded chats."),
    "retry-after": (RetryAfter, "The form of Retry-After."),
    "chat-count": (ChatCount, "What chatCount counts."),
    "first-chat-filters": (FirstChatFilters, "Filters on first chat times."),
    "first-chat-orders": (FirstChatOrders, "Orders by first chat time."),
}


def _switches(command: Any) -> Any:
    for name, (choices, text) in reversed(_SWITCHES.items()):
        first, *_ = values = get_args(choices)
        option = click.option(f"--{name}", type=click.Choice(values), default=first, show_default=True, help=text)
        command = option(command)
    return command


def _embed(text: str) -> int | str:
    return text if text == "all" else int(text)


def _fault(text: str) -> tuple[str, float]:
    name, _, probability = text.partition("=")
    try:
        return name, float(probability)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not like 503=0.05") from None


@click.command("sandbox")
@click.option("--conversations", type=click.IntRange(min=0), default=1000, show_default=True, help="How many.")
@click.option("--crowd", type=click.IntRange(min=0), default=0, help="How many of them began at one instant.")
@click.option("--seed", type=int, default=1, show_default=True, help="What the data is drawn from.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port; any free one if left out.")
@click.option("--latency", type=click.FloatRange(min=0), default=0.0, help="Seconds before each answer.")
@click.option("--embed", type=_embed, default="20", show_default=True, help='Chats in a list item, or "all".')
@click.option("--rate-limit", type=click.FloatRange(min=0, min_open=True), help="Requests per second.")
@click.option("--burst", type=click.FloatRange(min=1), help="Requests at once, within the rate limit.")
@click.option("--max-in-flight", type=click.IntRange(min=1), help="Requests served at once.")
@click.option(
    "--fault",
    "faults",
    type=_fault,
    multiple=True,
    metavar="NAME=P",
    help="A fault's probability; may be repeated.",
)
@click.option("--churn", type=click.IntRange(min=0), default=0, help="New chats after each list page.")
@click.option("--compress", is_flag=True, help="Answer in gzip where it is accepted.")
@_switches
@asynchronous
async def sandbox_command(faults: tuple[tuple[str, float], ...], churn: int, **options: Any) -> None:
    """Serve an Alli backend of made-up conversations on this machine, until it is interrupted.

    What it prints can be pasted into a shell, where the other commands then find it.
    """
    from ..sandbox import Churn, Sandbox

    try:
        sandbox = Sandbox(**options, faults=dict(faults), churn=Churn(new_chats=churn) if churn else None)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        async with sandbox:
            click.echo(f"export ALLI_BASE_URL={sandbox.url}\nexport ALLI_API_KEY={sandbox.api_key}")
            click.echo(f"# serving {options['conversations']:,} conversations; Ctrl-C ends it", err=True)
            await asyncio.Event().wait()
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {options['host']}:{options['port']}: {error.strerror}"
        ) from None
