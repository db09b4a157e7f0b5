"""A faithful Alli backend for tests and trials: all eleven operations over real sockets, without a key.

Data is generated from a seed, so that every run sees the same; what the real service leaves open, its limits
and its failures can be chosen.

    async with Sandbox(conversations=1000) as sandbox:
        async with AlliClient(sandbox.api_key, base_url=sandbox.url) as alli:
            page = await alli.conversations.list()
"""

from .faults import Fault
from .options import Churn, SandboxOptions
from .sandbox import Sandbox
from .traffic import Received

__all__ = ["Churn", "Fault", "Received", "Sandbox", "SandboxOptions"]
