"""Streams of `datasets` that go on at once where they stood, whatever the position within a shard.

`datasets` itself reads a shard from its beginning and throws away what was delivered before. Here its state dict holds
two more values: the state of our reader at the beginning of the current table, and the row at which that was.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

import pyarrow as pa
from datasets.formatting import PythonFormatter
from datasets.iterable_dataset import ArrowExamplesIterable
from datasets.utils import sharding

from .reader import Resume

__all__ = ["ResumableExamples", "make_resumable"]

_log = logging.getLogger("sa1b_hf")

Tables = Iterator[tuple[Any, pa.Table, "str | None"]]
_STOCK_STATE: Final = {"shard_idx": 0, "shard_example_idx": 0, "type": ArrowExamplesIterable.__name__}
_PLACE, _ROW = "sa1b_place", "sa1b_place_example_idx"
_FRESH: Final = {**_STOCK_STATE, "type": "ResumableExamples", _PLACE: None, _ROW: 0}


class ResumableExamples(ArrowExamplesIterable):  # type: ignore[misc]
    """What a streamed SA-1B gives its examples from."""

    iter_resumable: Callable[[Any, Resume | None], Tables]

    def _init_state_dict(self) -> dict[str, Any]:
        self._state_dict = {**_FRESH}
        return self._state_dict

    def __iter__(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Give rows as Python objects, and count each."""
        formatter = PythonFormatter()
        for key, table, state in self._iter_tables():
            for row in range(table.num_rows):
                example = formatter.format_row(table.slice(row, 1))
                state["shard_example_idx"] += 1
                yield key, example

    def _iter_arrow(self) -> Iterator[tuple[Any, pa.Table]]:
        for key, table, state in self._iter_tables():
            state["shard_example_idx"] += table.num_rows
            yield key, table

    def _iter_tables(self) -> Iterator[tuple[Any, pa.Table, dict[str, Any]]]:
        """Give what of each table was not delivered yet, and the state, which the caller counts up."""
        state = {**_FRESH} if self._state_dict is None else self._state_dict
        shards = self.kwargs["shards"]
        while state["shard_idx"] < len(shards):
            delivered, place = state["shard_example_idx"], state[_PLACE]
            resume = Resume(place, delivered - state[_ROW]) if place else None
            at = delivered if resume else 0  # without a place the shard is read again, and tables are thrown away
            for key, table, place in self.iter_resumable(shards[state["shard_idx"]], resume):
                if at + table.num_rows > delivered:
                    state[_PLACE], state[_ROW] = place, at
                    yield key, table.slice(max(0, delivered - at)), state
                at += table.num_rows
            state.update({**_FRESH, "shard_idx": state["shard_idx"] + 1})

    def shuffle_data_sources(self, generator: Any) -> ResumableExamples:
        """Give the shards in another order."""
        return self._with(sharding._shuffle_gen_kwargs(copy.deepcopy(generator), self.kwargs))  # noqa: SLF001

    def shard_data_sources(self, num_shards: int, index: int, contiguous: bool = True) -> ResumableExamples:
        """Give some of the shards."""
        return self._with(super().shard_data_sources(num_shards, index, contiguous).kwargs)

    def reshard_data_sources(self) -> ResumableExamples:
        """Give parts of the shards."""
        return self._with(super().reshard_data_sources().kwargs)

    def _with(self, kwargs: dict[str, Any]) -> ResumableExamples:
        twin = copy.copy(self)
        twin.kwargs = kwargs
        twin._state_dict = None  # type: ignore[assignment] # noqa: SLF001
        return twin


def make_resumable(examples: Any, iter_resumable: Callable[[Any, Resume | None], Tables]) -> Any:
    """Turn what `datasets` streams a builder from into `ResumableExamples`.

    Parameters
    ----------
    examples
        Of class ``ArrowExamplesIterable``; its ``kwargs`` are ``{"shards": [...]}``.
    iter_resumable
        Gives (key, table, state) of one of the shards, from where its second argument says.

    Returns
    -------
    ResumableExamples
        Or `examples` as they are, which resume by reading again, if this version of `datasets` keeps other things in
        its state than those known here.

    """
    try:
        is_known = type(examples) is ArrowExamplesIterable and set(examples.kwargs) == {"shards"}
        is_known = is_known and hasattr(sharding, "_shuffle_gen_kwargs")
        is_known = is_known and copy.copy(examples)._init_state_dict() == _STOCK_STATE  # noqa: SLF001
    except (AttributeError, TypeError):
        is_known = False
    if not is_known:
        _log.debug("this version of datasets has other internals: a stream resumes by reading its shard again")
        return examples
    resumable = ResumableExamples.__new__(ResumableExamples)
    resumable.__dict__.update(vars(examples))
    resumable.iter_resumable = iter_resumable
    return resumable
