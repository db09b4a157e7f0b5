"""The arguments of an export, checked before anything is sent or written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, get_args

from msgspec import UNSET, Struct, UnsetType

from .._listing.filters import ConversationFilters, Filters
from .._listing.pages import MAX_PAGE_SIZE, check_page_size
from ..config import checked_flag
from ..errors import ConfigurationError
from .destination import as_text
from .formats.compression import Compression
from .formats.csv import check_columns
from .formats.projection import Projection, Redact, choose
from .formats.writers import DEFAULT_COMPRESSION, Format, check_installed
from .records import ExportSpec, Kind
from .run_context import OnError
from .storage.addresses import FILE_KINDS, file_ending, is_other_file, local_path
from .storage.files import PRIVATE, check_mode

Time = datetime | float


class ExportRequest(Struct, frozen=True, kw_only=True):
    """The arguments of an export, checked.

    Attributes:
        dest: The destination; None where there is none yet, for a preview.
        file: The destination's path where it is a file.
        spec: The spec that the destination is to have.
        projection: Makes what is written of the server's JSON.
        filters: Filters of the list.
        is_incremental: Whether to write only what is new.
        refresh: Whether to write everything once more.
        page_size: Number of conversations to ask for at a time.
        mode: Permission bits of the files.
        on_error: What a conversation that cannot be made whole does; None for the destination's default.
        same_project: Whether the user vouches that the destination is of the server's project.
    """

    dest: str | os.PathLike[str] | None
    file: Path | None
    spec: ExportSpec
    projection: Projection
    filters: Filters
    is_incremental: bool = False
    refresh: bool = False
    page_size: int = MAX_PAGE_SIZE
    mode: int = PRIVATE
    on_error: OnError | None = None
    same_project: bool = False

    @classmethod
    def checked(
        cls,
        dest: str | os.PathLike[str] | None,
        filters: ConversationFilters,
        *,
        format: str | UnsetType = UNSET,  # noqa: A002 - a public name
        compression: str | None = None,
        since: Time | None = None,
        until: Time | None = None,
        incremental: bool = False,
        refresh: bool = False,
        columns: Sequence[str] | None = None,
        redact: Redact | None = None,
        page_size: int = MAX_PAGE_SIZE,
        mode: int = PRIVATE,
        on_error: str | None = None,
        same_project: bool = False,
        on_cluster: bool = False,
    ) -> ExportRequest:
        """Check the arguments of `export`, and whether they go with its `cluster` if it has one (`on_cluster`).

        Raises:
            ConfigurationError: A value that cannot be right.
        """
        flags = {"incremental": incremental, "refresh": refresh, "same_project": same_project}
        needs_directory = sum(checked_flag(*each) for each in flags.items()) > 0 or on_cluster
        _check_choices(format, compression)
        asked = None if isinstance(format, UnsetType) else format
        file = None if dest is None else file_of(dest, asked, compression, needs_directory=needs_directory)
        if file is not None:
            asked, compression = file.format, file.compression
        check_page_size(page_size)
        checked = _checked_filters(filters, since, until, incremental=incremental, refresh=refresh)
        spec, projection = _checked_spec(asked or "jsonl", compression, checked, columns, redact)
        _check_writing(dest, mode, on_error)
        return cls(
            dest=dest,
            file=None if file is None else file.path,
            spec=spec,
            projection=projection,
            filters=checked,
            is_incremental=incremental,
            refresh=refresh,
            page_size=page_size,
            mode=mode,
            on_error=on_error,  # type: ignore[arg-type] # it was checked
            same_project=same_project,
        )

    def kind(self, *, is_first: bool) -> Kind:
        """The kind of a new run; the first run of a destination writes everything, whatever was asked for."""
        if is_first:
            return "full"
        return "refresh" if self.refresh else "incremental"


def _checked_filters(
    filters: ConversationFilters, since: Time | None, until: Time | None, *, incremental: bool, refresh: bool
) -> Filters:
    given = {"first_chat_started_at": since, "first_chat_end_at": until}
    bounds = {name: value for name, value in given.items() if value is not None}
    for name, short in (("first_chat_started_at", "since"), ("first_chat_end_at", "until")):
        if name in bounds and filters.get(name) is not None:
            raise ConfigurationError(f"{short}: the same as {name}; give one of them")
    checked = Filters.checked(ConversationFilters(**{**filters, **bounds}))  # type: ignore[typeddict-item]
    if incremental and refresh:
        raise ConfigurationError("refresh: reads everything, and does not go with incremental")
    if incremental and checked.on_last_chat:
        raise ConfigurationError("incremental: sets started_at itself, and does not go with it or end_at")
    return checked


def _checked_spec(
    format: str,  # noqa: A002 - a public name
    compression: str | None,
    filters: Filters,
    columns: Sequence[str] | None,
    redact: Redact | None,
) -> tuple[ExportSpec, Projection]:
    """The spec of a destination; the libraries that its files need are installed."""
    fields, key = choose(columns, redact)
    if format == "csv":
        check_columns(fields)
    packed = compression or DEFAULT_COMPRESSION[format]
    check_installed(format, packed)
    named = sorted((name, as_text(value)) for name, value in filters.pairs)
    return ExportSpec(format=format, compression=packed, filters=named, fields=fields), Projection(fields, key)


def _check_choices(
    format: str | UnsetType,  # noqa: A002 - a public name
    compression: str | None,
) -> None:
    for name, value, kind in (("format", format, Format), ("compression", compression, Compression)):
        default = UNSET if name == "format" else None
        if value is not default and value not in get_args(kind):
            choices = " or ".join(f'"{each}"' for each in get_args(kind))
            raise ConfigurationError(f"{name}: expected {choices}, got {value!r}")


def _check_writing(dest: str | os.PathLike[str] | None, mode: int, on_error: str | None) -> None:
    if on_error not in (None, *get_args(OnError)):
        raise ConfigurationError(f'on_error: expected "raise" or "skip", got {on_error!r}')
    check_mode(mode)
    if mode != PRIVATE and dest is not None and local_path(dest) is None:
        raise ConfigurationError("mode: an object store has its own permissions; leave it out")


class SingleFile(NamedTuple):
    """A destination that is a single file, with the format and the compression that its name says."""

    path: Path
    format: str
    compression: str


def file_at(dest: str | os.PathLike[str]) -> SingleFile | None:
    """The single file that a destination is by its name; None where it is a directory or an object store.

    Raises:
        ConfigurationError: The name is that of a file of another kind, or no name at all.
    """
    path, text = local_path(dest), os.fspath(dest)
    if path is not None and path.is_dir():
        return None
    if is_other_file(text):
        raise ConfigurationError(
            f"dest: {text} is named like a file, but only {', '.join(FILE_KINDS)} are written as single files; "
            "the name of a directory, which Parquet needs, may have a slash at its end"
        )
    ending = file_ending(text)
    return None if path is None or ending is None else SingleFile(path, *FILE_KINDS[ending])


def file_of(
    dest: str | os.PathLike[str],
    format: str | None,  # noqa: A002 - a public name
    compression: str | None,
    *,
    needs_directory: bool = False,
) -> SingleFile | None:
    """The single file of a destination for this format and compression; None where it is no single file.

    Args:
        dest: The destination.
        format: The format that was asked for; None for the one that the name says.
        compression: The compression that was asked for; None for the one that the name says.
        needs_directory: Whether the export has another option that needs a directory or an object store.

    Raises:
        ConfigurationError: As from `file_at`; or the name does not fit the format or the compression, or the
            export needs a directory.
    """
    file = file_at(dest)
    if file is None:
        return None
    if needs_directory or format == "parquet":
        raise ConfigurationError(
            f"dest: {file.path} is a file; Parquet, incremental=True, refresh=True, same_project=True and "
            "cluster= need a directory"
        )
    for name, given, named in (
        ("format", format, file.format),
        ("compression", compression, file.compression),
    ):
        if given not in (None, named):
            raise ConfigurationError(f"{name}: {given} does not fit {file.path}, whose name says {named}")
    return file
