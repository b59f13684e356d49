"""Follows one symbol's manifest, whatever happens to it meanwhile.

Entries are numbered without a hole, so the next one is opened by name: a poll costs one failed
read when there is nothing new, and lists nothing. A listing is made at the start, and where
nothing has come for a while, since the next entry may have been compacted or, after its
retention, deleted. It never writes, and never lists data folders: a part that no entry names
does not exist.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from .errors import CorruptEntry, NotFound
from .manifest import CompactedEntry, Entry, Listing, Range, entry_key, manifest_folder
from .storage import Storage

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 60.0
"""Longest that a reader waits for an entry by its name without a look at the listing."""


def has_entry(storage: Storage, symbol: str, seq: int, committed_ns: int) -> bool:
    """Is this the history that had an entry `seq`, committed then? For a reader that goes on.

    It may have been compacted since, or deleted as too old: then there are later ones.

    Raises:
        StoreError: what is there cannot be read.
    """
    key = entry_key(symbol, seq)
    try:
        return Entry.from_json(storage.read(key), with_state=False).committed_ns == committed_ns
    except NotFound:
        pass
    listing = Listing.of(item.key for item in storage.find(manifest_folder(symbol)))
    if (span := listing.cover(seq)) is None:
        return listing.first_from(seq) is not None
    whole = CompactedEntry.from_json(storage.read(span.key(symbol)))
    return whole.members[seq - span.first].committed_ns == committed_ns


class ManifestReader:
    """Gives each entry once, in order; many at once where they are compacted."""

    def __init__(
        self,
        storage: Storage,
        symbol: str,
        next_seq: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._symbol = symbol
        self._clock = clock
        self._listing = Listing((), (), frozenset())
        self._look_at: float | None = None
        self.next_seq = next_seq
        self.expired = 0
        """Entries passed over, as they were deleted before they were read."""

    def poll(self, limit: int = 1000) -> list[Entry]:
        """New entries in order, at most `limit`; empty if there is none.

        Raises:
            CorruptEntry: the next entry cannot be read; `next_seq` stays on it.
            StorageError: the volume or the bucket does not answer.
        """
        if self._look_at is None:
            self._look()
        entries: list[Entry] = []
        while len(entries) < limit:
            try:
                entry = self._next()
            except CorruptEntry:
                if entries:  # hand out what is good; the next poll raises
                    break
                raise
            if entry is None:
                break
            entries.append(entry)
            self.next_seq = entry.next_seq
        return entries

    def rewind(self, seq: int) -> None:
        """Go back to the entry `seq`, as a part of it is gone.

        It was compacted or is too old: the next poll gives what took its place, if anything did.
        """
        self.next_seq = seq
        self._look_at = None

    def _next(self) -> Entry | None:
        if (span := self._listing.cover(self.next_seq)) is not None:
            return self._read_compacted(span)
        if (entry := self._read_single()) is not None:
            self._wait()
            return entry
        if not self._is_due():
            return None
        # Written in order, deleted long after they were compacted: if there is a later one, this
        # one either came since or is gone. A listing beside a writer may lack what came since.
        self._look()
        if self._listing.cover(self.next_seq) is None:
            if (entry := self._read_single()) is not None:
                return entry
            self._pass_over_deleted()
        if self._listing.first_from(self.next_seq) != self.next_seq:
            return None
        return self._next()

    def _is_due(self) -> bool:
        """Is it time to ask why there is no next entry?"""
        if self._listing.first_from(self.next_seq) is not None:
            return True  # a later one was seen
        return self._look_at is None or self._clock() >= self._look_at

    def _read_single(self) -> Entry | None:
        key = entry_key(self._symbol, self.next_seq)
        try:
            data = self._storage.read(key)
        except NotFound:
            return None
        try:
            return Entry.from_json(data)
        except CorruptEntry as exc:
            raise CorruptEntry(f"{key}: {exc}") from exc

    def _read_compacted(self, span: Range) -> Entry | None:
        key = span.key(self._symbol)
        try:
            data = self._storage.read(key)
        except NotFound:
            self._look()
            if self._listing.cover(self.next_seq) == span:
                raise CorruptEntry(f"{key}: listed, but cannot be read") from None
            self._pass_over_deleted()
            return self._next()
        try:
            return CompactedEntry.from_json(data).entry_from(self.next_seq)
        except CorruptEntry as exc:
            raise CorruptEntry(f"{key}: {exc}") from exc

    def _pass_over_deleted(self) -> None:
        first = self._listing.first_from(self.next_seq)
        if first is None or first == self.next_seq:
            return
        logger.info(
            "%s: entries %d to %d were deleted before they were read",
            self._symbol,
            self.next_seq,
            first - 1,
        )
        self.expired += first - self.next_seq
        self.next_seq = first

    def _look(self) -> None:
        stored = self._storage.find(manifest_folder(self._symbol))
        self._listing = Listing.of(item.key for item in stored)
        self._wait()

    def _wait(self) -> None:
        self._look_at = self._clock() + LOOK_SECONDS
