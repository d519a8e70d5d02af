"""A mixture's neurons on prompts: only the experts are kept that a prompt went to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

Some = slice | np.ndarray


class _Routing(NamedTuple):
    """A prompt: its experts, their neurons [chosen, width], and the shared expert's."""

    experts: np.ndarray
    own: np.ndarray
    shared: np.ndarray


@dataclass(frozen=True)
class RoutedRows:
    """Values of a layer's neurons, [n, d_ff], which are 0 in all other experts.

    Has what a ranking takes of an array of MLX. Figures are summed in float64, and
    given in float32.

    Attributes:
        count, width: of the experts, as :class:`cna_mlx.provenance.Experts` has them.
        d_ff: with the shared expert's.
    """

    count: int
    width: int
    d_ff: int
    rows: Sequence[_Routing | None]

    @classmethod
    def empty(cls, n: int, count: int, width: int, d_ff: int) -> "RoutedRows":
        """``n`` rows that are not known yet."""
        return cls(count, width, d_ff, [None] * n)

    def put(self, places: Sequence[int], values: np.ndarray) -> None:
        """Take rows [len(places), d_ff]."""
        assert isinstance(self.rows, list)
        parts = values[:, : self.count * self.width].reshape(-1, self.count, self.width)
        for place, own, all_ in zip(places, parts, values, strict=True):
            experts = np.flatnonzero((own != 0).any(axis=-1))
            shared = all_[self.count * self.width :].copy()
            self.rows[place] = _Routing(experts, own[experts], shared)

    @property
    def ndim(self) -> int:
        """As an array's."""
        return 2

    @property
    def shape(self) -> tuple[int, int]:
        """As an array's."""
        return len(self.rows), self.d_ff

    @property
    def nbytes(self) -> int:
        """As an array's."""
        return sum(part.nbytes for row in self._known() for part in row)

    def __len__(self) -> int:
        """How many rows."""
        return len(self.rows)

    def __getitem__(self, which: Any) -> Any:
        """Some rows; or some columns of all rows, as an array [n, columns] of MLX."""
        if isinstance(which, slice):
            rows = self.rows[which]
        elif isinstance(which, tuple):
            columns = np.array(which[1])
            found = np.zeros((len(self.rows), len(columns)), np.float32)
            for row, values in enumerate(self):
                found[row] = values[columns]
            return mx.array(found)
        else:
            rows = [self.rows[int(row)] for row in which]
        return RoutedRows(self.count, self.width, self.d_ff, rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each row whole, [d_ff] in float32."""
        for row in self._known():
            whole = np.zeros((self.count, self.width), np.float32)
            whole[row.experts] = row.own
            yield np.concatenate([whole.ravel(), row.shared])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All rows whole."""
        return np.array(list(self), dtype or np.float32).reshape(self.shape)

    def mean(self, axis: int = 0) -> mx.array:
        """Of the rows, [d_ff]."""
        return mx.array(self._mean().astype(np.float32))

    def deviation(self) -> mx.array:
        """The standard deviation over the rows, [d_ff]."""
        mean = self._mean()
        found = self._sum(lambda values, own: (values - own) ** 2, mean)
        return mx.array(np.sqrt(found / len(self.rows)).astype(np.float32))

    def magnitude(self) -> mx.array:
        """The mean |a| over the rows, [d_ff]."""
        found = self._sum(lambda values, _: np.abs(values), np.zeros(self.d_ff))
        return mx.array((found / len(self.rows)).astype(np.float32))

    def squares(self) -> float:
        """The sum of all squares."""
        parts = (part for row in self._known() for part in (row.own, row.shared))
        return float(sum(np.square(part, dtype=np.float64).sum() for part in parts))

    def routed(self) -> np.ndarray:
        """The share of the rows that go to each expert, [count]."""
        found = np.zeros(self.count)
        for row in self._known():
            found[row.experts] += 1
        return found / len(self.rows)

    def _mean(self) -> np.ndarray:
        zeros = np.zeros(self.d_ff)
        return self._sum(lambda values, _: values, zeros) / len(self.rows)

    def _sum(self, of: Any, around: np.ndarray) -> np.ndarray:
        """The sum over the rows of what ``of`` makes of values, [d_ff] in float64.

        ``around`` [d_ff] is its second argument, at the same neurons.
        """
        end = self.count * self.width
        centre, shared_centre = around[:end].reshape(-1, self.width), around[end:]
        found, shared = np.zeros_like(centre), np.zeros_like(shared_centre)
        missing = np.full(self.count, len(self.rows))  # rows of zeros
        for row in self._known():
            found[row.experts] += of(row.own.astype(np.float64), centre[row.experts])
            shared += of(row.shared.astype(np.float64), shared_centre)
            missing[row.experts] -= 1
        found += missing[:, None] * of(np.zeros_like(centre), centre)
        return np.concatenate([found.ravel(), shared])

    def _known(self) -> Iterator[_Routing]:
        for row in self.rows:
            assert row is not None
            yield row


#: A layer's values on prompts, [n, d_ff] in float32.
Rows = mx.array | RoutedRows


def put(
    rows: np.ndarray | RoutedRows, places: Sequence[int], values: np.ndarray
) -> None:
    """Take rows [len(places), d_ff] into an array or a mixture's rows."""
    if isinstance(rows, RoutedRows):
        rows.put(places, values)
    else:
        rows[places] = values
