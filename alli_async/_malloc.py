"""The memory of large answers, kept by the process between one answer and the next."""

from __future__ import annotations

from contextlib import suppress

# Bytes. glibc raises its thresholds to the size of a freed block, up to 32 MiB, the header included.
_LARGE_BLOCK = 31 << 20


_is_tuned = False


def is_malloc_tuned() -> bool:
    """Whether this process was asked to keep freed memory."""
    return _is_tuned


def tune_malloc() -> None:
    """Ask glibc to keep freed memory for the next answers, for the whole process and once for all.

    By default glibc gives each freed block of 128 KiB or more, such as the body of an answer, back to the kernel,
    and gets it again page by page for the next answer: about half of what receiving a page of a list costs.
    After this call the process keeps up to 62 MiB of freed memory at the end of its heap.

    The `alli-async` command does this by itself. A library has no right to, so programs decide. Settings of malloc
    in the environment (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`) are kept. With another C library
    (musl, macOS, Windows) or allocator nothing changes.
    """
    global _is_tuned
    _is_tuned = True
    # glibc learns its thresholds from what is freed: from now on blocks of this size come from the heap, and the
    # heap is cut only if twice as much is free at its end. The pages of this block are never touched.
    with suppress(MemoryError):
        bytes(_LARGE_BLOCK)
