"""Time, memory and machine that an artifact took."""

import os
import platform
import resource
import sys
import time
from datetime import UTC, datetime
from typing import Any

_clock = [time.perf_counter()]


def start_clock() -> None:
    """Restart the clock, where one process makes several artifacts."""
    _clock[0] = time.perf_counter()


def measured() -> dict[str, Any]:
    """Wall time since the process started or :func:`start_clock`, peak memory and hardware.

    Returns:
        ``seconds``, ``peak_memory_mb`` of the process so far, ``hardware``, and ``written``, the
        current time in UTC.

    Example:
        >>> sorted(measured())
        ['hardware', 'peak_memory_mb', 'seconds', 'written']
    """
    return {
        "seconds": round(time.perf_counter() - _clock[0], 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "hardware": hardware(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def hardware() -> str:
    """Architecture, processor and cores of this machine, and its GPU where one is in use."""
    parts = [f"{platform.machine()} {platform.system()}", f"{_processor()} x {os.cpu_count()}"]
    torch = sys.modules.get("torch")  # not imported here: reading tables needs no torch
    if torch is not None and torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = (line.partition(":")[2] for line in file if line.startswith("model name"))
            return " ".join(next(names).split())
    except (OSError, StopIteration):
        return platform.processor() or "processor"
