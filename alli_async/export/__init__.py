"""Exports: every conversation with all its chats, into files.

report = await export(client, "backup")
"""

from .batches import ArrowBatches, arrow_batches
from .compacting import compact
from .job import export
from .preview import ExportPreview, plan_export
from .report import ExportReport
from .running import ExportProgress

__all__ = [
    "ArrowBatches",
    "ExportPreview",
    "ExportProgress",
    "ExportReport",
    "arrow_batches",
    "compact",
    "export",
    "plan_export",
]
