"""Exports: every conversation with all its chats, into files.

report = await export(client, "backup")
"""

from .job import ExportReport, export

__all__ = ["ExportReport", "export"]
