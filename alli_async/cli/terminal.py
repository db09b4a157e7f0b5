"""Text that is safe on any terminal, and consoles that know what theirs can do."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:  # The help does not need it.
    from rich.console import Console

# What a terminal would obey or hide rather than show: control characters (C0, C1), marks that turn the direction
# of writing, separators of lines, tags, and halves of surrogate pairs.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def visible(text: str, *, keep_newlines: bool = True) -> str:
    r"""A text in which whatever a terminal would obey is escaped, such as `\x1b`.

    Args:
        text: The text.
        keep_newlines: Whether the text may have several lines; else newlines become spaces.
    """
    text = text.replace("\r\n", "\n") if keep_newlines else " ".join(text.split())
    return _UNSAFE.sub(lambda found: _escaped(found[0]), text)


def _escaped(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def visible_json(line: bytes, encoding: str) -> bytes:
    """A line of JSON in which whatever a terminal would obey, or an encoding cannot hold, is escaped as JSON does.

    Args:
        line: The line, in UTF-8.
        encoding: The encoding of the output.
    """
    text = _UNSAFE.sub(lambda found: _json_escape(found[0]), line.decode("utf-8", "backslashreplace"))
    if encoding.lower().replace("-", "") == "utf8":
        return text.encode()
    return re.sub(r"[^\x00-\x7f]", lambda found: _json_escape(found[0]), text).encode()


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal, whatever FORCE_COLOR says."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False


def is_smart(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal on which a line can be drawn again."""
    return is_terminal(stream) and os.environ.get("TERM", "").lower() not in ("dumb", "unknown", "")


def holds_blocks(stream: TextIO | None) -> bool:
    """Whether the encoding of a stream has the characters that bars and rules are drawn with."""
    try:
        "█▏─·…".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console that takes texts as they are: no markup, no highlighting, no emoji names.

    Args:
        stderr: Whether it is for standard error.
        width: The width in characters; None for the width of the terminal.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    if width is None and not is_terminal(stream) and "COLUMNS" not in os.environ:
        width = 100
    made = Console(file=stream, width=width, markup=False, highlight=False, emoji=False)
    if made.legacy_windows and not stderr:
        # A console of Windows without escape sequences would show those in captured text as they are.
        return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, color_system=None)
    return made
