"""What a pass over shards delivered, skipped and found broken: an object, also after many workers."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["BrokenShard", "PassReport", "read_reports", "temporary_directory", "write_report"]

_SUFFIX = ".pass.json"


@dataclass(frozen=True)
class BrokenShard:
    """A shard that could not be read to its end.

    Attributes
    ----------
    shard
        Name, such as ``sa_000016``.
    reason
        The error's short word, such as ``"gzip-data"``.
    message
        The error's text; holds no signed URL.
    offset
        Position in the uncompressed tar up to which members came out, in bytes.

    """

    shard: str
    reason: str
    message: str
    offset: int | None = None


@dataclass
class PassReport:
    """Counts of one pass over one or more shards.

    Attributes
    ----------
    passes
        Shards begun, each time it was begun.
    completed
        Of these, how many were read to their end (also to a broken end); the others were left early by the consumer.
    seen
        Images of which anything was found.
    delivered
        Images given out as rows.
    skipped
        Images not given out because of a fault, by reason.
    filtered
        Images not given out because a filter said so, by reason.
    num_annotations
        Annotations given out.
    filtered_annotations
        Annotations dropped by filters, by reason.
    other_members
        Members that are no SA-1B images or documents, and second copies, by reason; they cost no image.
    broken
        Shards that could not be read to the end.
    problems
        The first faults in words, at most `MAX_PROBLEMS` a pass.

    Notes
    -----
    ``seen == delivered + sum(skipped) + sum(filtered)`` holds for every completed pass.

    """

    passes: int = 0
    completed: int = 0
    seen: int = 0
    delivered: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    num_annotations: int = 0
    filtered_annotations: Counter[str] = field(default_factory=Counter)
    other_members: Counter[str] = field(default_factory=Counter)
    broken: list[BrokenShard] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    MAX_PROBLEMS = 20

    @property
    def is_clean(self) -> bool:
        """True when nothing was skipped and no shard was broken; filters do not count."""
        return not self.skipped and not self.broken and not self.other_members

    def add_problem(self, text: str) -> None:
        """Remember a fault in words, up to a limit."""
        if len(self.problems) < self.MAX_PROBLEMS:
            self.problems.append(text)

    def merge(self, other: PassReport) -> None:
        """Add another report's counts to this one."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(mine, Counter):
                mine.update(value)
            else:
                setattr(self, name, mine + value)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, ready for JSON."""
        values = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}
        return {**values, "broken": [asdict(shard) for shard in self.broken]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PassReport:
        """Give back what `to_dict` gave."""
        report = cls(**values)
        for name, value in vars(report).items():
            if isinstance(value, dict):
                setattr(report, name, Counter(value))
        report.broken = [BrokenShard(**shard) if isinstance(shard, dict) else shard for shard in report.broken]
        return report

    def __str__(self) -> str:
        """Give the summary line."""
        parts = [f"{self.delivered:,} images delivered of {self.seen:,} seen"]
        for title, counts in (("skipped", self.skipped), ("filtered", self.filtered), ("ignored", self.other_members)):
            if counts:
                parts.append(f"{sum(counts.values()):,} {title} ({_by_reason(counts)})")
        parts.append(f"{self.num_annotations:,} annotations")
        if self.filtered_annotations:
            parts.append(f"{self.filtered_annotations.total():,} filtered ({_by_reason(self.filtered_annotations)})")
        parts.extend(f"BROKEN {shard.shard}: {shard.reason}" for shard in self.broken)
        return ", ".join(parts)


def _by_reason(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items(), key=lambda item: -item[1]))


def write_report(report: PassReport, directory: Path) -> None:
    """Put a report into a directory where other processes put theirs; nothing half-written is ever visible."""
    directory.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    draft = directory / f".{name}.draft"
    draft.write_text(json.dumps(report.to_dict()), encoding="utf-8")
    os.replace(draft, directory / f"{name}{_SUFFIX}")  # noqa: PTH105 -- the same call, and atomic on every system


def read_reports(directories: Iterable[Path]) -> PassReport:
    """Sum the reports of all passes, of all processes, in some directories."""
    total = PassReport()
    for directory in directories:
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            total.merge(PassReport.from_dict(json.loads(path.read_text(encoding="utf-8"))))
    return total


def temporary_directory() -> str:
    """Make a folder that this process, not its workers, removes at its end."""
    directory = tempfile.mkdtemp(prefix="sa1b_hf-report-")
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(directory, ignore_errors=True)

    atexit.register(remove)
    return directory
