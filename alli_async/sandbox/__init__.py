"""A faithful Alli backend for tests and trials: all eleven operations over real sockets, without a key.

Data is generated from a seed, so that every run sees the same; what the real service leaves open, its limits
and its failures can be chosen.

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
    # Late: pytest imports this package, for its fixture, in every project of an environment that has it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
