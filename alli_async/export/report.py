"""The report of an export."""

from __future__ import annotations

from msgspec import Struct, field

from ..models import Skipped


class ExportReport(Struct, kw_only=True):
    """The report of an export.

    Attributes:
        path: The directory, the file, or the address in an object store that was written.
        conversations: Conversations in the parts of this run, those included that were written before it was
            resumed. Where the run had finished before, all that the destination holds.
        chats: Chats in these conversations.
        bytes: Size of the parts.
        uncompressed_bytes: Size of the conversations' JSON before compression.
        seconds: Seconds that this process took.
        requests: Number of requests that this process sent, and the workers of a cluster for it, retries included.
        retries: Number of these requests that were retries.
        skipped: The conversations that are not whole in the export, and why. The next incremental run asks for
            them again, until each is whole or gone.
        quarantined: Number of conversations that could not be decoded: lines of `quarantine.jsonl`. The next
            incremental run asks for them again too.
        deleted: Number of conversations that the run found deleted: new lines of `deleted.jsonl`.
        run: The number of the run; 0 for a single file.
        kind: `"full"`, `"incremental"`, `"refresh"` or `"compact"`.
        snapshot: When the run began, as ISO 8601, by the server's clock or by ours, whichever is earlier: what was
            there then is here. Empty for a single file.
        parts: Number of files that were written.
        resumed: Number of conversations that were found written already.
        finished_before: Whether everything was there already, so that nothing was done.
    """

    path: str
    conversations: int
    chats: int
    bytes: int
    uncompressed_bytes: int
    seconds: float
    requests: int
    retries: int
    skipped: list[Skipped] = field(default_factory=list)
    quarantined: int = 0
    deleted: int = 0
    run: int = 0
    kind: str = "full"
    snapshot: str = ""
    parts: int = 1
    resumed: int = 0
    finished_before: bool = False
