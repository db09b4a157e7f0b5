"""A faithful Alli backend for tests and trials: all eleven operations over real sockets, without a key.

The data is generated from a seed, so every run sees the same. Options choose how the server behaves where the
contract leaves it open, its limits and its faults; methods change the data while it serves.

    async with Sandbox(conversations=1000) as sandbox:
        async with AlliClient(sandbox.api_key, base_url=sandbox.url) as alli:
            page = await alli.conversations.list()
"""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .faults import Fault
    from .options import Churn, SandboxOptions
    from .sandbox import Sandbox
    from .traffic import Received

__all__ = ["Churn", "Fault", "Received", "Sandbox", "SandboxOptions"]

# pytest loads this package for its fixtures in every project of the environment, so imports are late.
_HOMES = {
    ".faults": "Fault",
    ".options": "Churn SandboxOptions",
    ".sandbox": "Sandbox",
    ".traffic": "Received",
}

if not TYPE_CHECKING:  # A type checker would believe that every name is there.
    __getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
