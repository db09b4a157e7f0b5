"""The log: `ALLI_LOG=debug` in the environment shows what the logger `alli_async` says, on standard error."""

from __future__ import annotations

import logging
from collections.abc import Mapping

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


def switch_on(environ: Mapping[str, str]) -> None:
    """Show the log on standard error, from the level that `ALLI_LOG` names; without it, show nothing."""
    logger = logging.getLogger("alli_async")
    # Without any handler, logging itself would print warnings of a library that an application did not ask for.
    logger.addHandler(logging.NullHandler())
    name = environ.get("ALLI_LOG", "").strip().lower()
    if not name:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    # An application that configures the root logger would show each line twice.
    logger.propagate = False
    logger.setLevel(LEVELS.get(name, logging.DEBUG))
    if name not in LEVELS:
        logger.warning("ALLI_LOG: expected one of %s, got %a; logging everything", ", ".join(LEVELS), name)
