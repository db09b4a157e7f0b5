"""DEST: what the name of a destination says, and what may be written there."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .confirming import ask
from .terminal import is_terminal, visible

STDOUT = "-"


def format_of(dest: str, form: str | None, compression: str | None) -> tuple[str | None, str | None]:
    """The format and compression of a destination, which a file's name decides.

    Args:
        dest: The destination.
        form: The format that was asked for; None if it was left out.
        compression: The compression that was asked for; None if none was.

    Raises:
        click.UsageError: The name is that of a file that is not written, or is at odds with the options.
    """
    if dest == STDOUT:
        if form not in (None, "jsonl") or compression not in (None, "none"):
            raise click.UsageError("DEST - is standard output, which takes plain JSON Lines only")
        return "jsonl", "none"
    from ..export.storage.addresses import FILE_KINDS

    ending = file_ending(dest)
    if ending is None:
        _check_directory(dest)
        return form, compression
    by_name = FILE_KINDS[ending]
    shown, named = visible(dest), by_name[1] if by_name[1] != "none" else "no compression"
    if form not in (None, by_name[0]):
        raise click.UsageError(f"DEST: {shown} is named like a file of {by_name[0]}, --format is {form}")
    if compression not in (None, by_name[1]):
        raise click.UsageError(f"DEST: {shown} is named like a file of {named}, --compression is {compression}")
    return by_name


def check_directory_options(dest: str, options: Mapping[str, Any]) -> None:
    """Refuse options that need a directory or an object store.

    Args:
        dest: The destination.
        options: The options, by their names.

    Raises:
        click.UsageError: The destination is a file or standard output.
    """
    is_file = dest != STDOUT and file_ending(dest) is not None
    if dest != STDOUT and not is_file:
        return
    for name in ("incremental", "refresh", "cluster"):
        if options[name]:
            option = "--dask" if name == "cluster" else f"--{name}"
            what = f"{visible(dest)} is one file" if is_file else "- is standard output"
            raise click.UsageError(f"{option} needs a directory or an object store as DEST; {what}")


def file_ending(dest: str) -> str | None:
    """The ending of a destination that is a single file; None for a directory or an object store."""
    from ..export.storage import addresses

    return None if "://" in dest or Path(dest).is_dir() else addresses.file_ending(dest)


def _check_directory(dest: str) -> None:
    if not dest:
        raise click.UsageError("DEST is empty")
    if "://" in dest or Path(dest).is_dir():
        return
    from ..export.storage.addresses import FILE_KINDS, is_other_file

    known = ", ".join(FILE_KINDS)
    if is_other_file(dest):
        hint = "; for Parquet name a directory and give --format parquet" if "parquet" in dest.lower() else ""
        raise click.UsageError(f"DEST: {visible(dest)} is named like a file, but only {known} are written{hint}")
    if os.path.exists(dest):
        raise click.UsageError(
            f"DEST: {visible(dest)} is a file, but not named like one that is written ({known})"
        )


def check_replaceable(dest: str, *, force: bool) -> None:
    """See to it that no file is replaced that the user wants to keep.

    Raises:
        click.UsageError: The file is there, and there is no terminal to ask on.
    """
    if dest != STDOUT and file_ending(dest) is not None:
        check_writable(Path(dest), force=force)


def check_writable(path: Path, *, force: bool) -> None:
    """See to it that no file is replaced that the user wants to keep.

    Raises:
        click.UsageError: The file is there, and there is no terminal to ask on.
    """
    if force or not path.is_file():
        return
    if not is_terminal(sys.stdin):
        raise click.UsageError(f"{visible(str(path))} exists already; --force replaces it")
    if not ask(f"{visible(str(path))} exists already. Replace it?"):
        click.echo("Nothing was changed.", err=True)
        raise click.exceptions.Exit(1)
