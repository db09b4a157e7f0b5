"""Exports: every conversation with all its chats, into files.

report = await export(client, "backup")
"""

from .compacting import compact
from .job import export
from .preview import ExportPreview, plan_export
from .report import ExportReport
from .running import ExportProgress

__all__ = ["ExportPreview", "ExportProgress", "ExportReport", "compact", "export", "plan_export"]
