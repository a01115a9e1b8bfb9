"""What a transfer of labels matched and what it did not, by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["TransferReport"]


@dataclass(frozen=True)
class TransferReport:
    """Counts of a transfer, on the side of its source and on the side of SA-1B.

    Attributes
    ----------
    rows
        Annotations of the file, or rows of the table.
    matched
        Of these, how many gave something to an image or mask.
    unmatched
        The others, by reason. ``"not-seen"``: their image did not come by.
    targets
        Masks, or images, that came by.
    labeled
        Of these, how many got something.
    unlabeled
        The others, by reason: ``"not-in-source"``, ``"no-match"``.
    negatives
        Pairs of an image that came by and something that is not to be seen in it.

    Notes
    -----
    ``rows == matched + sum(unmatched)`` and ``targets == labeled + sum(unlabeled)``. Counted is what came by in this
    process; an image that comes by again counts once.

    """

    rows: int
    matched: int
    unmatched: Counter[str] = field(default_factory=Counter)
    targets: int = 0
    labeled: int = 0
    unlabeled: Counter[str] = field(default_factory=Counter)
    negatives: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, ready for JSON."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    def __str__(self) -> str:
        """Give the summary line."""
        parts = [f"{self.matched:,} of {self.rows:,} rows matched{_by_reason(self.unmatched)}"]
        parts.append(f"{self.labeled:,} of {self.targets:,} targets labeled{_by_reason(self.unlabeled)}")
        if self.negatives:
            parts.append(f"{self.negatives:,} negatives")
        return ", ".join(parts)


def _by_reason(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f" ({', '.join(f'{reason} {count:,}' for reason, count in ordered)})" if ordered else ""
