"""The key of hashed fields on a worker: it is read from a file of the worker's own, and never sent."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import ConfigurationError
from ..formats.projection import Choice, key_check_of

KEY_FILE = "ALLI_REDACT_KEY_FILE"


def read_hash_key(choice: Choice) -> bytes | None:
    """The key of the hashed fields of an export, from the file that the environment names. It blocks.

    Args:
        choice: The fields of the export, which tell its key from others.

    Returns:
        The key; None where no field is hashed.

    Raises:
        ConfigurationError: There is no such file, or it holds another key.
    """
    if not choice.hashed:
        return None
    path = os.environ.get(KEY_FILE)
    if not path:
        raise ConfigurationError(
            f"no key of hashed fields: set {KEY_FILE} in its environment to a file with the key"
        )
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"{KEY_FILE}: cannot read {path}: {reason}") from None
    # The command leaves out the space around the key in its own file.
    for key in (data, data.strip()):
        if key_check_of(key) == choice.key_check:
            return key
    raise ConfigurationError(f"{KEY_FILE}: the key in {path} is not that of this export")
