"""A transcript as a web page of one file, in which nothing that the server sent can run or be fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from .records import cell, time_text
from .rows import rating_text
from .transcript import about, footnotes


def webpage(record: Mapping[str, Any]) -> str:
    """A conversation with its chats as HTML.

    Every text is escaped by the template. Messages are rendered from Markdown without HTML in it and without
    images, and links lead to http and https only. The page's own policy forbids scripts and requests as well.

    Args:
        record: The conversation as the wire has it, with all chats.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise click.ClickException(f"--html needs {error.name}: pip install 'alli-async[cli]'") from None

    environment = Environment(
        loader=PackageLoader("alli_async.cli"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    render = _markdown()
    chats = record.get("chats") or []
    shown = [
        {
            "sender": cell(chat, "sender") or "?",
            "time": time_text(chat.get("timestamp"), seconds=True),
            "rating": rating_text(chat),
            "id": cell(chat, "id"),
            # The renderer escapes what it does not make itself.
            "message": Markup(render(cell(chat, "message"))),  # noqa: S704
            "notes": footnotes(chat),
        }
        for chat in chats
    ]
    return environment.get_template("transcript.html").render(
        title=cell(record, "title") or "(no title)", about=about(record, len(chats)), chats=shown
    )


def _markdown() -> Any:
    """The renderer of messages."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True}).enable(
        ["table", "strikethrough"]
    )
    # An image is shown as its description: to fetch it would tell its server who reads the page.
    parser.disable("image")
    parser.validateLink = _is_safe_link  # type: ignore[method-assign]
    parser.add_render_rule("link_open", _link_open)
    return parser.render


def _is_safe_link(url: str) -> bool:
    return url.strip().lower().startswith(("http://", "https://", "mailto:"))


def _link_open(self: Any, tokens: Any, index: int, options: Any, environment: Any) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    tokens[index].attrSet("target", "_blank")
    rendered: str = self.renderToken(tokens, index, options, environment)
    return rendered
