"""Labels and notes of positions: what people remember about a holding. They never step its version."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

from steelyard.accounting.errors import NotFound, VersionMismatch
from steelyard.accounting.keys import PositionKey
from steelyard.operations.answering_once import KeepsAnswers, KeptForm, RequestIdentity, answer_once
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.ports import Commit

METHOD = "UpdatePosition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """What people say about a position."""

    labels: Mapping[str, str] = field(default_factory=dict)
    notes: str | None = None
    version: int = 0
    """Steps with each change of these; 0: never annotated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationChange:
    """What is to be written; None keeps what there is. Empty labels and empty notes take away."""

    labels: Mapping[str, str] | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class AnnotationReceipt:
    """The labels and notes as the write left them."""

    annotations: Annotations
    is_replayed: bool = False
    commits: Sequence[Commit] = ()


class AnnotationWrites(KeepsAnswers, Protocol):
    """One transaction on the labels and notes of a position."""

    @property
    def commits(self) -> Sequence[Commit]:
        """After the commit: the step of the account's log; none where nothing changed."""
        ...

    async def locked(self, key: PositionKey) -> Annotations | None:
        """The labels and notes, locked until the commit; None where there is no such position."""
        ...

    async def write(self, key: PositionKey, annotations: Annotations) -> None:
        """Replaces them; steps the account's log, so that whoever keeps answers by it reads anew."""
        ...


class AnnotationStore(Protocol):
    """Hands out transactions."""

    def transaction(self) -> AbstractAsyncContextManager[AnnotationWrites]:
        """A transaction, committed when the block ends well."""
        ...


class AnnotatePositions:
    """The operation behind UpdatePosition."""

    def __init__(self, store: AnnotationStore, *, jitter: Callable[[], float]) -> None:
        self._store = store
        self._jitter = jitter

    async def update(
        self,
        key: PositionKey,
        change: AnnotationChange,
        *,
        request: RequestIdentity,
        expected_version: int | None = None,
    ) -> AnnotationReceipt:
        """Writes labels, notes or both; the same again changes nothing. `expected_version` is that of the annotations.

        Raises `NotFound` where the key never had an entry, `VersionMismatch`, `RequestIdReused`.
        """
        return await with_retries(
            lambda: self._update(key, change, request=request, expected_version=expected_version), jitter=self._jitter
        )

    async def _update(
        self, key: PositionKey, change: AnnotationChange, *, request: RequestIdentity, expected_version: int | None
    ) -> AnnotationReceipt:
        form = KeptForm(str(key.account), METHOD, encode=_answer_bytes, decode=_annotations_of)
        async with self._store.transaction() as book:
            answered = await answer_once(
                book,
                request,
                form=form,
                write=lambda: _write(book, key, change=change, expected_version=expected_version),
            )
        return AnnotationReceipt(answered.value, is_replayed=answered.is_replayed, commits=book.commits)


async def _write(
    book: AnnotationWrites, key: PositionKey, *, change: AnnotationChange, expected_version: int | None
) -> Annotations:
    before = await book.locked(key)
    if before is None:
        raise NotFound("position", "/".join(key))
    if expected_version is not None and expected_version != before.version:
        raise VersionMismatch(f"labels and notes are at version {before.version}", current_version=str(before.version))
    after = _changed(before, change)
    if after != before:
        await book.write(key, after)
    return after


def _changed(before: Annotations, change: AnnotationChange) -> Annotations:
    labels = before.labels if change.labels is None else dict(change.labels)
    notes = before.notes if change.notes is None else change.notes or None
    if (labels, notes) == (before.labels, before.notes):
        return before
    return replace(before, labels=labels, notes=notes, version=before.version + 1)


def _answer_bytes(annotations: Annotations) -> bytes:
    return json.dumps([dict(annotations.labels), annotations.notes, annotations.version]).encode()


def _annotations_of(answer: bytes) -> Annotations:
    labels, notes, version = json.loads(answer)
    return Annotations(labels=labels, notes=notes, version=version)
