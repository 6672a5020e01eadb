"""The tables as SQLAlchemy knows them, for questions whose shape depends on a filter.

The migrations make the tables; this mirrors their columns, and a test holds the two together. Checks and indexes are
the migrations' alone. A domain's columns come back as its base type: `amount` and `total` as `Decimal`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP, UUID
from sqlalchemy.types import TypeEngine

metadata = MetaData()


class Amount(Numeric[Decimal]):
    """The domain `amount`, what callers give: no NaN, magnitude below 1e20."""


class Total(Numeric[Decimal]):
    """The domain `total`, what adds up: no NaN, magnitude below 1e60."""


class KeyText(Text):
    """The domain `key_text`: names and ids, 1 to 128 characters, compared by bytes."""


AMOUNT = Amount()
TOTAL = Total()
KEY_TEXT = KeyText()
MOMENT = TIMESTAMP(timezone=True)
NUMBER = BigInteger()
INTEGER = Integer()
TEXT = Text()
FLAG = Boolean()
JSON = JSONB()
ID = UUID(as_uuid=True)
BYTES = LargeBinary()

Type = TypeEngine[Any]


def _key(*names: str, kind: Type = KEY_TEXT) -> list[Column[Any]]:
    return [Column(name, kind, primary_key=True) for name in names]


def _required(kind: Type, *names: str) -> list[Column[Any]]:
    return [Column(name, kind, nullable=False) for name in names]


def _optional(kind: Type, *names: str) -> list[Column[Any]]:
    return [Column(name, kind, nullable=True) for name in names]


def _position_key() -> list[Column[Any]]:
    return [*_key("account", "book", "instrument"), *_key("leg", kind=TEXT)]


def _key_columns() -> list[Column[Any]]:
    return [*_required(KEY_TEXT, "book", "instrument"), *_required(TEXT, "leg")]


def _stamps() -> list[Column[Any]]:
    return [*_required(NUMBER, "version"), *_required(MOMENT, "created_at", "updated_at")]


accounts = Table(
    "accounts",
    metadata,
    *_key("account"),
    *_required(TEXT, "cost_method", "lot_method", "size_authority", "time_zone"),
    *_required(JSON, "day_rule"),
    *_optional(MOMENT, "sealed_before"),
    *_stamps(),
)
database_epoch = Table("database_epoch", metadata, *_key("epoch", kind=ID))
account_heads = Table(
    "account_heads", metadata, *_key("account"), *_required(NUMBER, "seq"), *_required(MOMENT, "committed_at")
)
account_commits = Table(
    "account_commits",
    metadata,
    *_key("account"),
    *_key("seq", kind=NUMBER),
    *_required(NUMBER, "commit_id"),
    *_required(MOMENT, "committed_at"),
    *_required(TEXT, "cause"),
)
instruments = Table(
    "instruments",
    metadata,
    *_key("instrument"),
    *_required(TEXT, "kind"),
    *_required(AMOUNT, "multiplier"),
    *_required(TEXT, "quote_currency", "settle_currency", "price_rule"),
    *_required(FLAG, "is_root"),
    *_stamps(),
)
marks = Table(
    "marks",
    metadata,
    *_key("instrument"),
    *_required(AMOUNT, "price"),
    *_required(MOMENT, "marked_at"),
    *_required(TEXT, "source"),
    *_required(MOMENT, "recorded_at"),
)
fills = Table(
    "fills",
    metadata,
    *_key("account", "fill_id"),
    *_key_columns(),
    *_required(AMOUNT, "delta", "price", "fee"),
    *_optional(TEXT, "fee_currency"),
    *_optional(AMOUNT, "fee_rate"),
    *_optional(TOTAL, "fee_value"),
    *_required(MOMENT, "executed_at"),
    *_required(INTEGER, "source_sequence"),
    *_required(TEXT, "state"),
    *_required(INTEGER, "revision"),
    *_optional(TEXT, "order_id", "note"),
    *_optional(JSON, "labels"),
    *_optional(ID, "import_id"),
    *_required(NUMBER, "commit_id"),
    *_required(MOMENT, "recorded_at"),
)
fill_revisions = Table(
    "fill_revisions",
    metadata,
    *_key("account", "fill_id"),
    *_key("revision", kind=INTEGER),
    *_key_columns(),
    *_required(AMOUNT, "delta", "price", "fee"),
    *_optional(TEXT, "fee_currency"),
    *_optional(AMOUNT, "fee_rate"),
    *_optional(TOTAL, "fee_value"),
    *_required(MOMENT, "executed_at"),
    *_required(INTEGER, "source_sequence"),
    *_required(TEXT, "state"),
    *_optional(ID, "import_id"),
    *_required(NUMBER, "commit_id"),
    *_required(MOMENT, "recorded_at"),
)
fill_attestations = Table("fill_attestations", metadata, *_key("account", "fill_id"), *_key("import_id", kind=ID))
adjustments = Table(
    "adjustments",
    metadata,
    *_key("account", "adjustment_id"),
    *_key_columns(),
    *_required(TEXT, "kind"),
    *_optional(AMOUNT, "quantity", "average_price", "amount"),
    *_required(MOMENT, "effective_at"),
    *_required(INTEGER, "source_sequence"),
    *_required(TEXT, "state"),
    *_optional(TEXT, "note"),
    *_required(NUMBER, "commit_id"),
    *_required(MOMENT, "recorded_at"),
)
positions = Table(
    "positions",
    metadata,
    *_position_key(),
    *_required(NUMBER, "version"),
    *_required(TOTAL, "quantity", "cost_average"),
    *_optional(TOTAL, "average_price"),
    *_required(TOTAL, "cost_lots", "gross_average", "gross_lots", "fees", "reducing_fees", "funding"),
    *_required(TOTAL, "cash_average", "cash_lots", "unmatched"),
    *_required(NUMBER, "fill_count"),
    *_optional(JSON, "unvalued_fees", "trip"),
    *_optional(MOMENT, "last_executed_at"),
    *_optional(INTEGER, "last_sequence"),
    *_optional(KEY_TEXT, "last_entry_id"),
    *_optional(MOMENT, "last_fill_at", "opened_at", "closed_at"),
    *_required(INTEGER, "since_checkpoint"),
    *_required(TEXT, "figures_state"),
    *_required(TOTAL, "pending_fees", "pending_quantity"),
    *_required(NUMBER, "pending_fills"),
    *_optional(JSON, "labels"),
    *_optional(TEXT, "notes"),
    *_required(NUMBER, "annotation_version"),
    *_required(MOMENT, "created_at", "updated_at"),
    *_optional(MOMENT, "last_snapshot_at"),
)
lots = Table(
    "lots",
    metadata,
    *_position_key(),
    *_key("opened_at", kind=MOMENT),
    *_key("opened_sequence", kind=INTEGER),
    *_key("opened_entry_id"),
    *_required(TOTAL, "quantity", "original_quantity", "price"),
)
round_trips = Table(
    "round_trips",
    metadata,
    *_key("account"),
    *_key("trip_id", kind=ID),
    *_key_columns(),
    *_required(TEXT, "direction"),
    *_required(MOMENT, "opened_at"),
    *_required(INTEGER, "opened_sequence"),
    *_required(KEY_TEXT, "opened_entry_id"),
    *_required(TOTAL, "opening_quantity"),
    *_required(FLAG, "is_flip"),
    *_required(MOMENT, "last_at"),
    *_required(INTEGER, "last_sequence"),
    *_required(KEY_TEXT, "last_entry_id"),
    *_optional(MOMENT, "closed_at"),
    *_required(TOTAL, "entered_quantity", "entered_value", "exited_quantity", "exited_value"),
    *_required(TOTAL, "open_quantity", "max_quantity"),
    *_required(FLAG, "is_adjusted"),
    *_required(TOTAL, "gross_average", "gross_lots", "fees", "reducing_fees", "funding"),
    *_required(TOTAL, "cash_average", "cash_lots", "unmatched"),
    *_required(NUMBER, "fill_count"),
    *_optional(JSON, "unvalued_fees"),
)
checkpoints = Table(
    "checkpoints",
    metadata,
    *_position_key(),
    *_key("executed_at", kind=MOMENT),
    *_key("source_sequence", kind=INTEGER),
    *_key("entry_id"),
    *_required(JSON, "state"),
)
stale_keys = Table(
    "stale_keys",
    metadata,
    *_position_key(),
    *_required(MOMENT, "from_executed_at"),
    *_required(INTEGER, "from_sequence"),
    *_required(KEY_TEXT, "from_entry_id"),
    *_required(MOMENT, "to_executed_at"),
    *_required(INTEGER, "to_sequence"),
    *_required(KEY_TEXT, "to_entry_id"),
    *_required(NUMBER, "entries", "touch"),
    *_required(TEXT, "reason"),
    *_required(FLAG, "is_held"),
    *_required(MOMENT, "since"),
)
position_events = Table(
    "position_events",
    metadata,
    *_position_key(),
    *_key("version", kind=NUMBER),
    *_required(NUMBER, "seq"),
    *_required(TEXT, "cause"),
    *_optional(TEXT, "cause_id"),
    *_required(TEXT, "change"),
    *_required(ARRAY(TEXT), "fill_ids"),
    *_required(NUMBER, "fill_count"),
    *_required(JSON, "state"),
    *_required(MOMENT, "committed_at"),
)
requests = Table(
    "requests",
    metadata,
    *_key("scope"),
    *_key("request_id", kind=ID),
    *_required(TEXT, "method"),
    *_required(BYTES, "body_hash", "response"),
    *_required(MOMENT, "created_at"),
)
inbox = Table(
    "inbox",
    metadata,
    *_key("account", "source", "event_id"),
    *_required(BYTES, "content_hash"),
    *_required(MOMENT, "received_at"),
)
order_feeds = Table("order_feeds", metadata, *_key("account", "order_id"), *_required(TEXT, "feed"))
order_states = Table(
    "order_states",
    metadata,
    *_key("account", "order_id"),
    *_key("filled_quantity", kind=AMOUNT),
    *_required(AMOUNT, "average_price"),
    *_optional(AMOUNT, "fees"),
    *_required(MOMENT, "reached_at", "told_at"),
    *_required(KEY_TEXT, "fill_id"),
)
venue_reports = Table(
    "venue_reports",
    metadata,
    *_position_key(),
    *_optional(MOMENT, "reported_at"),
    *_required(INTEGER, "ties"),
    *_optional(AMOUNT, "quantity", "average_price", "unrealized_pnl", "realized_pnl"),
    *_required(TEXT, "source"),
    *_required(MOMENT, "received_at"),
    *_optional(MOMENT, "parked_at"),
    *_optional(INTEGER, "parked_sequence"),
    *_optional(KEY_TEXT, "parked_entry_id"),
)
discrepancies = Table(
    "discrepancies",
    metadata,
    *_key("account"),
    *_key("discrepancy_id", kind=ID),
    *_key_columns(),
    *_required(TEXT, "kind", "state"),
    *_optional(TOTAL, "ours", "theirs"),
    *_required(TEXT, "source"),
    *_optional(MOMENT, "reported_at"),
    *_required(NUMBER, "occurrences"),
    *_required(MOMENT, "found_at", "last_seen_at"),
    *_optional(MOMENT, "resolved_at"),
    *_required(TEXT, "compared_with", "severity", "detail"),
    *_optional(ID, "run_id"),
    *_required(NUMBER, "version"),
    *_optional(TEXT, "resolved_by", "resolution"),
    *_optional(NUMBER, "fixed_version"),
)
reconciliation_runs = Table(
    "reconciliation_runs",
    metadata,
    *_key("run_id", kind=ID),
    *_required(TEXT, "cause", "state"),
    *_required(ARRAY(TEXT), "accounts", "instruments"),
    *_required(FLAG, "is_fixing"),
    *_optional(BYTES, "body_hash"),
    *_required(NUMBER, "keys_total", "keys_checked", "keys_waiting", "keys_fixed", "found", "found_new", "resolved"),
    *_required(JSON, "found_by_kind"),
    *_optional(TEXT, "venue_error", "error"),
    *_required(MOMENT, "created_at"),
    *_optional(MOMENT, "started_at"),
    *_required(MOMENT, "updated_at"),
    *_optional(MOMENT, "finished_at"),
)
outbox = Table(
    "outbox",
    metadata,
    *_key("account"),
    *_key("seq", kind=NUMBER),
    *_key("ordinal", kind=INTEGER),
    *_required(INTEGER, "partition"),
    *_required(TEXT, "topic"),
    *_key_columns(),
    *_optional(NUMBER, "version"),
    *_optional(JSON, "body"),
    *_optional(TEXT, "trace_id"),
    *_required(MOMENT, "created_at"),
)
published_portfolios = Table(
    "published_portfolios",
    metadata,
    *_key("account"),
    *_required(NUMBER, "seq"),
    *_required(MOMENT, "published_at"),
)
account_limits = Table(
    "account_limits",
    metadata,
    *_key("account", "currency"),
    *_optional(AMOUNT, "gross_exposure_max", "net_exposure_max", "instrument_exposure_max", "day_loss_max"),
    *_required(FLAG, "counts_unrealized"),
    *_stamps(),
)
instrument_limits = Table(
    "instrument_limits",
    metadata,
    *_key("account", "currency", "instrument"),
    *_required(AMOUNT, "exposure_max"),
)
limit_breaches = Table(
    "limit_breaches",
    metadata,
    *_key("account"),
    *_key("breach_id", kind=ID),
    *_required(KEY_TEXT, "currency"),
    *_required(TEXT, "kind"),
    *_optional(KEY_TEXT, "instrument"),
    *_required(AMOUNT, "limit_value"),
    *_required(TOTAL, "opened_value"),
    *_required(NUMBER, "opened_seq"),
    *_required(MOMENT, "opened_at"),
    *_optional(TOTAL, "closed_value"),
    *_optional(NUMBER, "closed_seq"),
    *_optional(MOMENT, "closed_at"),
)
api_keys = Table(
    "api_keys",
    metadata,
    *_key("key_id", kind=TEXT),
    *_required(TEXT, "owner"),
    *_required(BYTES, "digest"),
    *_required(ARRAY(TEXT), "scopes"),
    *_optional(ARRAY(TEXT), "accounts"),
    *_required(TEXT, "tier"),
    *_optional(INTEGER, "calls_per_minute"),
    *_required(INTEGER, "fills_per_second", "streams_max", "builds_max"),
    *_required(MOMENT, "created_at"),
    *_optional(MOMENT, "expires_at", "revoked_at", "last_used_at"),
)
