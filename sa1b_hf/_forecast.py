"""Will the links last? Said while there is time to do something about it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from ._origins import Origin
from .links import DOWNLOADS_PAGE, SignedUrl

__all__ = ["forecast_expiry"]


def forecast_expiry(waiting: Iterable[tuple[Origin, int]], rate: float, now: datetime, *, ahead: int = 0) -> str | None:
    """Tell which shard will begin after its link has expired.

    Parameters
    ----------
    waiting
        Shards that are still to begin, in order, and the bytes of each.
    rate
        Bytes per second.
    now
        Timezone-aware.
    ahead
        Bytes of shards under way, which come first.

    Returns
    -------
    str or None
        A sentence; None if all links will last, or do not say when they end.

    """
    if rate <= 0:
        return None
    num_bytes = ahead
    for origin, size in waiting:
        expires_at = origin.location.expires_at if isinstance(origin.location, SignedUrl) else None
        # A century is forever, and more than a timedelta takes.
        begins = now + timedelta(seconds=min(num_bytes / rate, 3e9))
        if expires_at is not None and begins >= expires_at:
            return (
                f"at the present {rate / 1e6:,.1f} MB/s {origin.name} begins around {begins:%Y-%m-%d %H:%M} UTC, after "
                f"its link expires ({expires_at:%Y-%m-%d %H:%M}); get a fresh links file from {DOWNLOADS_PAGE} before "
                "then: stop and run again with it, what is there is kept"
            )
        num_bytes += size
    return None
