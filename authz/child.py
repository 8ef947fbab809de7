"""A child process of ours, ended: first asked, then, when it does not listen, killed.

- Only a process that was started here is signalled, and none twice.
"""

import subprocess
from typing import Final

STOP_SECONDS: Final = 5.0


def stop_child(process: subprocess.Popen[bytes], seconds: float = STOP_SECONDS) -> None:
    """End a process and wait for its end; one that has ended is left alone."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
