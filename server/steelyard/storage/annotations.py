"""Labels and notes in the rows of positions: columns of their own, which no fold reads or writes."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager

from steelyard.accounting.keys import PositionKey
from steelyard.operations.annotate_positions import Annotations
from steelyard.storage.codec import dumps
from steelyard.storage.database import Database
from steelyard.storage.record_writes import RecordTransaction, record_transaction

_OF_KEY = "WHERE account = $1 AND book = $2 AND instrument = $3 AND leg = $4"
_LOCKED = f"SELECT labels, notes, annotation_version FROM positions {_OF_KEY} FOR NO KEY UPDATE"  # noqa: S608
_WRITE = f"UPDATE positions SET labels = $5, notes = $6, annotation_version = $7 {_OF_KEY}"  # noqa: S608


class AnnotationTransaction(RecordTransaction):
    """Fulfils the port `annotate_positions.AnnotationWrites`."""

    async def locked(self, key: PositionKey) -> Annotations | None:
        """The labels and notes, locked until the commit; None where there is no such position."""
        row = await self.connection.fetchrow(_LOCKED, *key)
        if row is None:
            return None
        labels = json.loads(row["labels"]) if row["labels"] else {}
        return Annotations(labels=labels, notes=row["notes"], version=row["annotation_version"])

    async def write(self, key: PositionKey, annotations: Annotations) -> None:
        """Replaces them; steps the account's log, so that whoever keeps answers by it reads anew."""
        self.touched.add(key.account)
        labels = dumps(dict(annotations.labels)) if annotations.labels else None
        await self.connection.execute(_WRITE, *key, labels, annotations.notes, annotations.version)


class PositionAnnotations:
    """Fulfils the port `annotate_positions.AnnotationStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractAsyncContextManager[AnnotationTransaction]:
        """A transaction, committed when the block ends well."""
        return record_transaction(self._database, AnnotationTransaction, cause="annotation")
