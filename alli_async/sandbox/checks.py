"""Checks of option values, with messages that name the option and say what would be right."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def wrong(name: str, right: str, value: Any) -> ValueError:
    """The error for an option with a wrong value."""
    return ValueError(f"{name} must be {right}, not {value!r}")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise ValueError if the value is not one of the choices."""
    if value not in choices:
        raise wrong(name, f"one of {', '.join(choices)}", value)


def check_flag(name: str, value: Any) -> None:
    """Raise ValueError if the value is not a boolean."""
    if not isinstance(value, bool):
        raise wrong(name, "True or False", value)


def check_integer(name: str, value: Any, low: int | None = None, high: int | None = None, more: str = "") -> None:
    """Raise ValueError if the value is not an integer within the bounds; `more` names other right values."""
    right = isinstance(value, int) and not isinstance(value, bool)
    if not right or (low is not None and value < low) or (high is not None and value > high):
        bounds = "" if low is None else f" of at least {low}" if high is None else f" from {low} to {high}"
        raise ValueError(f"{name} must be an integer{bounds}{more}, not {value!r}")


def check_number(name: str, value: Any, *, zero: bool = False) -> None:
    """Raise ValueError if the value is not a finite number above 0; `zero` also allows 0."""
    right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    if not right or (value == 0 and not zero):
        raise ValueError(f"{name} must be a finite number {'of at least' if zero else 'above'} 0, not {value!r}")


def check_share(name: str, value: Any) -> None:
    """Raise ValueError if the value is not a number from 0 to 1."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise wrong(name, "a number from 0 to 1", value)


def check_faults(faults: Any, known: Collection[str]) -> None:
    """Raise ValueError if the faults are not known names with probabilities that add up to at most 1."""
    if not isinstance(faults, Mapping):
        raise wrong("faults", "a mapping of names of faults to probabilities", faults)
    for name, probability in faults.items():
        if name not in known:
            raise ValueError(f"faults knows {', '.join(known)}, not {name!r}")
        check_number(f"faults[{name!r}]", probability, zero=True)
    if sum(faults.values()) > 1 + 1e-9:
        raise ValueError(f"faults must have probabilities that add up to at most 1, not {sum(faults.values())}")
