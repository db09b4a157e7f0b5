"""--columns and --redact: the fields of an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import cloup

FIELDS = cloup.option_group(
    "Fields",
    cloup.option(
        "--columns",
        metavar="FIELDS",
        help="Only these fields, separated by commas, like title,user.user_id,chats.message. [default: all]",
    ),
    cloup.option(
        "--redact",
        metavar="FIELD",
        multiple=True,
        help="Leave this field out, like user or chats.message; FIELD:hash replaces its text by a keyed hash. May "
        "be repeated.",
    ),
    cloup.option(
        "--redact-key-file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File with the secret key of the hashes, of at least 16 bytes. Workers (--dask) read it from the "
        "file that ALLI_REDACT_KEY_FILE names in their environment.",
    ),
)


def fields_of(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of the fields out, as the arguments `columns` and `redact`.

    Raises:
        click.UsageError: They contradict each other, or the key cannot be read.
    """
    columns, given, path = (options.pop(name) for name in ("columns", "redact", "redact_key_file"))
    if given and not _names(*given):
        raise click.UsageError("--redact names no field")
    redact: dict[str, bytes | None] = {}
    hashed = [each for each in _names(*given) if each.endswith(":hash")]
    if hashed and path is None:
        raise click.UsageError(f"--redact {hashed[0]} needs --redact-key-file")
    if path is not None and not hashed:
        raise click.UsageError("--redact-key-file: nothing is hashed; write --redact FIELD:hash")
    key = _key_in(path) if path is not None else None
    for each in _names(*given):
        name, _, how = each.partition(":")
        if how not in ("", "hash"):
            raise click.UsageError(f"--redact {each}: expected FIELD or FIELD:hash")
        if name in redact:
            raise click.UsageError(f"--redact: {name} is named twice")
        redact[name] = key if how else None
    return {"columns": None if columns is None else _names(columns), "redact": redact or None}


def _names(*texts: str) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _key_in(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise click.UsageError(f"--redact-key-file: cannot read {path}: {reason}") from None
