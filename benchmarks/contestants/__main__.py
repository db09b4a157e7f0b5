"""One run of one contestant: `python -m benchmarks.contestants NAME JOB`, where the job is JSON; prints JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import msgspec

from . import Job, load


def peak_mb() -> float:
    """Resident memory at its highest."""
    # What getrusage says may be the memory of the process that started this one.
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.open() if line.startswith("VmHWM:")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main(name: str, text: str) -> None:
    """Run it, and print what it gave and took."""
    job = msgspec.json.decode(text, type=Job)
    run = load(name, job)
    began, cpu = time.perf_counter(), time.process_time()
    run()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    tally = job.tally
    result = {
        "seconds": seconds,
        "cpuSeconds": cpu_seconds,
        "peakMb": peak_mb(),
        "conversations": tally.conversations,
        "chats": tally.chats,
        "missing": tally.missing,
        "repeated": tally.repeated,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
