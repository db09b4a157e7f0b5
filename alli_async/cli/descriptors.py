"""The descriptors of standard input, output and error, where the caller has closed them (`>&-`)."""

from __future__ import annotations

import os


def reserve_standard_descriptors() -> None:
    """Open the null device in place of a standard stream that is closed.

    Else the next file or socket takes the number: then it is handed to child processes, is written to by whoever
    writes to standard error, and uvloop aborts the process when it closes it. `sys.stdout` and its like stay None.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one: the lower ones are open now.
            os.set_inheritable(os.open(os.devnull, flags), True)
