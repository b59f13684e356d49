"""What REST can still serve: bounded rings of trades, as columns.

A ring of Python objects would take 100 MB a symbol at the default size; columns take 25 MB,
and only the part that was ever filled is resident.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Ring:
    """Rows of int64 columns under contiguous ids; the oldest make way for the newest.

    The first column must be the time in milliseconds, not decreasing except by clock faults.
    """

    def __init__(self, capacity: int, columns: int) -> None:
        self._rows: npt.NDArray[np.int64] = np.zeros((capacity, columns), dtype=np.int64)
        self._capacity = capacity
        self._next: int | None = None
        self._count = 0

    @property
    def last_id(self) -> int | None:
        return None if self._next is None else self._next - 1

    @property
    def first_id(self) -> int | None:
        return None if self._next is None else self._next - self._count

    def append(self, row_id: int, row: tuple[int, ...]) -> None:
        """Add a row; a hole in the ids empties the ring, because ids are positions."""
        if self._next is not None and row_id != self._next:
            self._count = 0
        self._rows[row_id % self._capacity] = row
        self._next = row_id + 1
        self._count = min(self._count + 1, self._capacity)

    def select(
        self,
        limit: int,
        from_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> list[tuple[int, ...]]:
        """Up to `limit` rows as (id, *columns), oldest first.

        Without any bound the newest rows; with one, the first rows that satisfy all.
        """
        if self._next is None:
            return []
        first, stop = self._next - self._count, self._next
        if from_id is None and start_ms is None and end_ms is None:
            first = max(first, stop - limit)
        elif from_id is not None:
            first = max(first, from_id)
        if start_ms is None and end_ms is None:
            stop = min(stop, first + limit)
        ids = np.arange(first, max(first, stop), dtype=np.int64)
        rows = self._rows[ids % self._capacity]
        if start_ms is not None or end_ms is not None:
            low = -(2**62) if start_ms is None else start_ms
            high = 2**62 if end_ms is None else end_ms
            chosen = np.flatnonzero((rows[:, 0] >= low) & (rows[:, 0] <= high))
            # Only an end: the newest up to it, as the exchange does.
            chosen = chosen[-limit:] if start_ms is None and from_id is None else chosen[:limit]
            ids, rows = ids[chosen], rows[chosen]
        return [(row_id, *row) for row_id, row in zip(ids.tolist(), rows.tolist(), strict=True)]
