"""A time on the command line: so long ago, or RFC 3339."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import typer

_AGO: Final = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str | None, now: datetime, option: str) -> datetime | None:
    """Read `90s`, `15m`, `2h`, `7d` ago, or an RFC 3339 time (UTC, where it has no zone).

    Raises:
        typer.BadParameter: if it is neither.
    """
    if text is None:
        return None
    try:
        if match := _AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        read = datetime.fromisoformat(text)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"not a time: {text[:40]!r}; write 15m, 2h, 7d or 2026-11-21T08:00:00Z", param_hint=option
        ) from error
