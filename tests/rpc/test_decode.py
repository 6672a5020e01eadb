"""What callers send is read strictly, and every complaint names the field by its full path."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from hypothesis import given
from hypothesis import strategies as st

from steelyard.accounting.entries import AdjustmentKind, Side
from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import Leg
from steelyard.operations.ports import Commit
from steelyard.rpc import decode, decode_fill, encode, header
from steelyard.v1 import common_pb2, fill_pb2, fill_service_pb2

AT = Timestamp(seconds=1_750_400_000, nanos=123_456_000)
NANOS_TOO_FINE = Timestamp(seconds=1, nanos=1)


def fill(**fields: Any) -> fill_pb2.Fill:
    whole: dict[str, Any] = {
        "fill_id": "f1",
        "account": "ACC",
        "instrument": "BTCUSDT",
        "side": common_pb2.SIDE_BUY,
        "quantity": "1.5",
        "price": "50000",
        "executed_at": AT,
    }
    whole.update(fields)
    return fill_pb2.Fill(**{name: value for name, value in whole.items() if value is not None})


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(InvalidField) as caught:
        act()
    return caught.value.field


def test_a_fill_is_read_with_the_defaults_of_the_contract() -> None:
    read = decode_fill.fill(fill(), field="fill")
    assert read.key == ("ACC", "main", "BTCUSDT", Leg.NET)
    assert (read.side, read.quantity, read.price, read.fee) == (Side.BUY, Decimal("1.5"), Decimal(50000), Decimal(0))
    assert read.executed_at == datetime(2025, 6, 20, 6, 13, 20, 123456, tzinfo=UTC)
    assert (read.fee_currency, read.fee_rate, read.order_id, read.note, dict(read.labels)) == (None,) * 4 + ({},)


@pytest.mark.parametrize(
    "change, path",
    [
        ({"fill_id": ""}, "fills[2].fill_id"),
        ({"fill_id": "ü"}, "fills[2].fill_id"),
        ({"account": ""}, "fills[2].account"),
        ({"book": "a b  c"}, "fills[2].book"),
        ({"instrument": "btc"}, "fills[2].instrument"),
        ({"leg": 9}, "fills[2].leg"),
        ({"side": 0}, "fills[2].side"),
        ({"side": 77}, "fills[2].side"),
        ({"quantity": ""}, "fills[2].quantity"),
        ({"quantity": "0"}, "fills[2].quantity"),
        ({"quantity": "-1"}, "fills[2].quantity"),
        ({"quantity": "1e3"}, "fills[2].quantity"),
        ({"quantity": "1_000"}, "fills[2].quantity"),
        ({"quantity": "NaN"}, "fills[2].quantity"),
        ({"quantity": "\uff11"}, "fills[2].quantity"),
        ({"quantity": "9" * 21}, "fills[2].quantity"),
        ({"price": "0." + "1" * 19}, "fills[2].price"),
        ({"price": "1e1000000"}, "fills[2].price"),
        ({"fee": ""}, "fills[2].fee"),
        ({"fee": "$1"}, "fills[2].fee"),
        ({"fee_currency": "usd"}, "fills[2].fee_currency"),
        ({"fee_rate": "0"}, "fills[2].fee_rate"),
        ({"executed_at": None}, "fills[2].executed_at"),
        ({"executed_at": NANOS_TOO_FINE}, "fills[2].executed_at"),
        ({"source_sequence": -1}, "fills[2].source_sequence"),
        ({"order_id": "x" * 129}, "fills[2].order_id"),
        ({"note": "x" * 1_001}, "fills[2].note"),
        ({"note": "a\0b"}, "fills[2].note"),
        ({"labels": {str(n): "" for n in range(33)}}, "fills[2].labels"),
        ({"labels": {"": "x"}}, "fills[2].labels"),
        ({"labels": {"x" * 65: "x"}}, "fills[2].labels"),
        ({"labels": {"desk": "x" * 257}}, "fills[2].labels[desk]"),
    ],
)
def test_a_wrong_field_of_a_fill_is_named_by_its_path(change: dict[str, Any], path: str) -> None:
    assert refused(lambda: decode_fill.fill(fill(**change), field="fills[2]")) == path


@pytest.mark.parametrize(
    "value",
    [
        NANOS_TOO_FINE,
        Timestamp(seconds=1, nanos=-1),
        Timestamp(seconds=1, nanos=1_000_000_000),
        Timestamp(seconds=2**62),
        Timestamp(seconds=-(2**62)),
        Timestamp(seconds=253_402_300_800),
    ],
)
def test_a_time_that_cannot_be_kept_exactly_is_refused(value: Timestamp) -> None:
    assert refused(lambda: decode.timestamp(value, field="at")) == "at"


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_comes_back_exactly(at: datetime) -> None:
    assert decode.timestamp(encode.timestamp(at), field="at") == at


def test_dates_and_zones_and_ids_are_checked() -> None:
    assert decode.calendar_date(Date(year=2024, month=2, day=29), field="day") == date(2024, 2, 29)
    assert refused(lambda: decode.calendar_date(Date(year=2025, month=2, day=29), field="day")) == "day"
    assert refused(lambda: decode.calendar_date(Date(year=2025), field="day")) == "day"
    assert decode.time_zone("America/Chicago").key == "America/Chicago"
    for zone in ("", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "x" * 65, "a\0b"):
        assert refused(lambda zone=zone: decode.time_zone(zone)) == "time_zone"  # type: ignore[misc]
    assert decode.uuid("00000000-0000-0000-0000-000000000007", field="id") == UUID(int=7)
    for text in ("", "7", "{00000000-0000-0000-0000-000000000007}", "urn:uuid:" + "0" * 32):
        assert refused(lambda text=text: decode.uuid(text, field="id")) == "id"  # type: ignore[misc]


def test_page_sizes_are_coerced_and_negative_ones_refused() -> None:
    assert [decode.page_size(size) for size in (0, 1, 1_000, 1_001, 2**31 - 1)] == [50, 1, 1_000, 1_000, 1_000]
    assert refused(lambda: decode.page_size(-1)) == "page_size"


def test_versions_come_as_numbers_or_as_etags_never_as_both() -> None:
    request = fill_service_pb2.RecordFillRequest
    assert decode_fill.expected_version(request()) is None
    assert decode_fill.expected_version(request(expected_version=0)) == 0
    assert decode_fill.expected_version(request(etag='"v42"')) == 42
    assert decode_fill.expected_version(request(etag=encode.etag(7))) == 7
    assert refused(lambda: decode_fill.expected_version(request(etag="42"))) == "etag"
    assert refused(lambda: decode_fill.expected_version(request(expected_version=-1))) == "expected_version"
    assert refused(lambda: decode_fill.expected_version(request(expected_version=1, etag='"v1"'))) == "etag"


def test_an_adjustment_without_an_id_gets_one_from_the_request_id() -> None:
    message = fill_pb2.Adjustment(
        key=common_pb2.PositionKey(account="ACC", instrument="BTCUSDT"),
        kind=fill_pb2.ADJUSTMENT_KIND_FUNDING,
        amount="-0.5",
        effective_at=AT,
    )
    read = decode_fill.adjustment(message, request_id=UUID(int=7))
    assert read.adjustment_id == f"adjustment:{UUID(int=7)}"
    assert (read.kind, read.amount, read.quantity) == (AdjustmentKind.FUNDING, Decimal("-0.5"), None)
    message.adjustment_id = "mine"
    assert decode_fill.adjustment(message, request_id=UUID(int=7)).adjustment_id == "mine"
    message.kind = fill_pb2.ADJUSTMENT_KIND_UNSPECIFIED
    assert refused(lambda: decode_fill.adjustment(message, request_id=UUID(int=7))) == "adjustment.kind"


def test_an_interval_must_not_end_before_it_starts() -> None:
    request = fill_service_pb2.ListFillsRequest(
        account="ACC", executed_from=Timestamp(seconds=2), executed_before=Timestamp(seconds=1)
    )
    assert refused(lambda: decode_fill.fill_filter(request)) == "executed_before"


def test_min_commit_keeps_the_largest_of_each_account() -> None:
    commits = [common_pb2.Commit(account=name, seq=seq) for name, seq in (("B", 3), ("A", 5), ("B", 9), ("B", 4))]
    assert header.min_commit(commits) == (Commit("A", 5), Commit("B", 9))  # type: ignore[arg-type]
    assert refused(lambda: header.min_commit([common_pb2.Commit(account="A", seq=-1)])) == "min_commit[0].seq"
    assert refused(lambda: header.min_commit([common_pb2.Commit(seq=1)])) == "min_commit[0].account"


def test_the_same_body_hashes_alike_under_any_request_id() -> None:
    request = fill_service_pb2.RecordAdjustmentRequest
    first, second = request(request_id="a", validate_only=True), request(request_id="b", validate_only=True)
    assert decode.body_hash(first) == decode.body_hash(second)
    assert decode.body_hash(first) != decode.body_hash(request(request_id="a"))


def test_label_filters_are_written_name_equals_value() -> None:
    assert decode.label_filter(["desk=a=b", "x="]) == {"desk": "a=b", "x": ""}
    assert refused(lambda: decode.label_filter(["desk"])) == "labels[0]"
