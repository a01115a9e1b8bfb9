"""What to do when something is wrong: raise, or count and go on."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from .errors import RecordError, SA1BError, ShardError
from .reports import BrokenShard, PassReport

__all__ = ["Faults", "OnError"]

OnError = Literal["raise", "warn"]

_log = logging.getLogger("sa1b_hf")


@dataclass
class Faults:
    """The tolerance of one pass over one shard, and its report.

    Attributes
    ----------
    shard
        Name of the shard.
    on_error
        ``"raise"``: the first fault ends the pass, after everything good before it came out. ``"warn"``: faults are
        counted in the report and logged, all good data around them comes out.
    report
        Where counts go.

    """

    shard: str
    on_error: OnError
    report: PassReport

    def skip_image(self, error: RecordError) -> None:
        """Handle a fault that costs one image."""
        self.report.skipped[error.reason] += 1
        self._tell(error)

    def ignore_member(self, error: RecordError) -> None:
        """Handle a member that is not needed, or there twice."""
        self.report.other_members[error.reason] += 1
        self._tell(error)

    def break_shard(self, error: ShardError, offset: int | None) -> None:
        """Handle the early end of a shard."""
        self.report.broken.append(BrokenShard(self.shard, error.reason, str(error), offset))
        self._tell(error)

    def _tell(self, error: SA1BError) -> None:
        self.report.add_problem(str(error))
        if self.on_error == "raise":
            raise error
        level = logging.WARNING if len(self.report.problems) < PassReport.MAX_PROBLEMS else logging.DEBUG
        _log.log(level, "%s", error)
