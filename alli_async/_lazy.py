"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module


def lazy_names(package: str, homes: Mapping[str, str], submodules: Iterable[str] = ()) -> Callable[[str], object]:
    """Make the `__getattr__` of a package that imports each public name when it is first used.

    Args:
        package: The name of the package.
        homes: The public names, separated by spaces, by the submodule that defines them (`".models"`).
        submodules: Names of submodules that are attributes of the package without an import of their own.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}
    modules = frozenset(submodules)

    def get(name: str) -> object:
        if name in modules:
            return import_module(f".{name}", package)
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(home_of[name], package), name)
        # The next access finds the name in the package itself.
        setattr(sys.modules[package], name, value)
        return value

    return get
