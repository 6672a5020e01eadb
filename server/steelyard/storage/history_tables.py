"""The tables of snapshots and of what was believed earlier, as SQLAlchemy knows them; see `tables`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Table

from steelyard.storage.tables import ID, INTEGER, JSON, KEY_TEXT, MOMENT, NUMBER, TEXT, Type, metadata


def _columns(kind: Type, *names: str, nullable: bool = False, is_key: bool = False) -> list[Column[Any]]:
    return [Column(name, kind, nullable=nullable, primary_key=is_key) for name in names]


position_snapshots = Table(
    "position_snapshots",
    metadata,
    *_columns(KEY_TEXT, "account", is_key=True),
    *_columns(MOMENT, "taken_at", is_key=True),
    *_columns(ID, "snapshot_id", is_key=True),
    *_columns(KEY_TEXT, "book", "instrument"),
    *_columns(TEXT, "leg", "cause"),
    *_columns(NUMBER, "version"),
    *_columns(JSON, "position", "features", nullable=True),
    *_columns(TEXT, "failure", nullable=True),
)
fill_moves = Table(
    "fill_moves",
    metadata,
    *_columns(KEY_TEXT, "account", "fill_id", is_key=True),
    *_columns(NUMBER, "commit_id", is_key=True),
    *_columns(INTEGER, "revision", "source_sequence"),
)
past_changes = Table(
    "past_changes",
    metadata,
    *_columns(KEY_TEXT, "account", "book", "instrument", is_key=True),
    *_columns(TEXT, "leg", is_key=True),
    *_columns(MOMENT, "recorded_at", is_key=True),
    *_columns(ID, "change_id", is_key=True),
    *_columns(NUMBER, "commit_id"),
    *_columns(MOMENT, "from_executed_at"),
)
history_begins = Table("history_begins", metadata, *_columns(MOMENT, "began_at", is_key=True))
