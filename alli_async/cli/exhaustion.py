"""What the command says when the machine gives the process no more memory, files or threads."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator

# Descriptors that are asked for: 64 connections, 64 files, and as much again. More only makes some programs slow.
_WANTED_FILES = 4096
# Bytes of a thread's stack where address space is scarce, and glibc's name of a setting (malloc.h).
_STACK, _M_ARENA_MAX = 2 << 20, -8


def raise_file_limit() -> None:
    """Raise the soft limit on open files as far as the hard limit allows; macOS starts a shell with 256."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft not in (resource.RLIM_INFINITY, hard) and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def spare_address_space() -> None:
    """Where the address space is limited (`ulimit -v`), reserve little of it for each thread.

    glibc reserves 64 MiB for the heap of a thread and 8 MiB for its stack, most of which is never touched.
    """
    if sys.platform == "win32":
        return
    import resource

    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        return
    threading.stack_size(_STACK)
    with contextlib.suppress(AttributeError, OSError):  # a C library without mallopt
        import ctypes

        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


_MEMORY = "out of memory: the limit of this process (ulimit -v, or its container's) is too low"
_FILES = "too many open files: raise the limit (ulimit -n 256), or lower --max-concurrency"
_THREADS = "no more threads: the limit on processes or on memory (ulimit -u, ulimit -v) is too low"
# What an error says of a resource: most libraries have no type for it.
_SIGNS: tuple[tuple[type[BaseException], str, str], ...] = (
    (MemoryError, "", _MEMORY),
    (ImportError, r"failed to map segment|[Cc]annot allocate memory", _MEMORY),
    (OSError, r"^\[Errno (23|24)\]", _FILES),  # ENFILE, EMFILE
    (Exception, r"start new thread|Failed to launch worker thread", _THREADS),
)


def exhausted(error: BaseException) -> str | None:
    """Say in one sentence which resource ran out; None where the error, and what led to it, has another cause."""
    for each in _causes(error):
        for kind, sign, sentence in _SIGNS:
            if isinstance(each, kind) and re.search(sign, str(each)):
                return sentence
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, the errors of a group, and the errors in whose handling they were raised."""
    left, seen = [error], set[int]()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left += [other for other in (each.__cause__, each.__context__) if other is not None]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions
