"""The number of withdrawals that somebody presupposes, held against the number that we know."""

from authz.errors import StoreError


def require_epoch(min_epoch: int, known: int) -> None:
    """Refuse what presupposes more than the one who writes the rights knows.

    Raises:
        StoreError: if it does: it was given out before the state was restored, or by somebody else.
    """
    if min_epoch > known:
        raise StoreError(f"a token of epoch {min_epoch}, and we are at {known}: was a backup restored?")
