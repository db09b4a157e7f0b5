"""A faithful Alli backend for tests and trials: all eleven operations over real sockets, without a key.

The data is generated from a seed, so every run sees the same. Options choose how the server behaves where the
contract leaves it open, its limits and its faults; methods change the data while it serves.

    async with Sandbox(conversations=1000) as sandbox:
        async with AlliClient(sandbox.api_key, base_url=sandbox.url) as alli:
            page = await alli.conversations.list()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .faults import Fault
    from .options import Churn, SandboxOptions
    from .sandbox import Sandbox
    from .traffic import Received

__all__ = ["Churn", "Fault", "Received", "Sandbox", "SandboxOptions"]

_HOMES = {
    "Churn": "options",
    "Fault": "faults",
    "Received": "traffic",
    "Sandbox": "sandbox",
    "SandboxOptions": "options",
}


def __getattr__(name: str) -> Any:
    # Imports are late because pytest loads this package, for its fixture, in every project of the environment.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
