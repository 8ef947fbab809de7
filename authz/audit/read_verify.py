"""Verify the log in a directory, also while it is being written.

- The head is read before the records, so that a writer in between adds records and never lacks one.
"""

from collections.abc import Callable
from pathlib import Path

from authz.audit.log_head import read_head
from authz.audit.read_lines import log_lines, segment_files, wait_for_the_writer
from authz.audit.verify import Verification, verify_lines
from authz.errors import AuditError


def verify_directory(directory: Path, pause: Callable[[], None] = wait_for_the_writer) -> Verification:
    """Check the log in a directory; `pause` waits where a line has no end yet.

    Raises:
        AuditError: if there is none, or it cannot be read.
    """
    if not directory.is_dir():
        raise AuditError(f"there is no audit log in {str(directory)!r}")
    written = read_head(directory)
    if written is None and not segment_files(directory):
        raise AuditError(f"there is no audit log in {str(directory)!r}")
    return verify_lines(log_lines(directory, pause), written)
