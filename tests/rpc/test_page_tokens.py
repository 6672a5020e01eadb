"""Page tokens come back as they went out, to the same question only, and from nobody else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.accounting.errors import PageTokenInvalid
from steelyard.rpc.page_tokens import Cursor, PageTokens
from steelyard.v1 import common_pb2, fill_service_pb2, position_service_pb2

TOKENS = PageTokens(b"k" * 32)
TIMES = st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds the zone
VALUES = st.none() | st.text() | st.integers() | st.booleans() | TIMES | st.uuids() | st.decimals(
    allow_nan=False, allow_infinity=False, places=18, min_value=-(10**20), max_value=10**20
)  # fmt: skip
CURSOR: Cursor = ("ACC", datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), UUID(int=7), Decimal("-1.50"), None, 3)


def question(**fields: object) -> fill_service_pb2.ListFillsRequest:
    request = fill_service_pb2.ListFillsRequest(account="ACC")
    for name, value in fields.items():
        setattr(request, name, value)
    return request


def test_a_cursor_comes_back_value_for_value() -> None:
    token = TOKENS.next(question(), CURSOR)
    assert TOKENS.cursor(question(page_token=token)) == CURSOR


@given(st.lists(VALUES, max_size=6).map(tuple))
def test_any_cursor_comes_back(cursor: Cursor) -> None:
    token = TOKENS.next(question(), cursor)
    assert TOKENS.cursor(question(page_token=token)) == cursor


def test_the_first_page_has_no_cursor_and_the_last_no_token() -> None:
    assert TOKENS.cursor(question()) is None
    assert TOKENS.next(question(), None) == ""


def test_page_size_and_min_commit_are_no_part_of_the_question() -> None:
    token = TOKENS.next(question(page_size=10), CURSOR)
    later = question(page_size=999, page_token=token)
    later.min_commit.append(common_pb2.Commit(account="ACC", seq=3))
    assert TOKENS.cursor(later) == CURSOR


def test_a_token_of_another_filter_is_refused() -> None:
    token = TOKENS.next(question(), CURSOR)
    with pytest.raises(PageTokenInvalid):
        TOKENS.cursor(question(account="OTHER", page_token=token))


def test_a_token_of_another_method_is_refused() -> None:
    token = TOKENS.next(position_service_pb2.ListRoundTripsRequest(account="ACC"), CURSOR)
    with pytest.raises(PageTokenInvalid):
        TOKENS.cursor(question(page_token=token))


def test_a_token_of_another_database_is_refused() -> None:
    token = PageTokens(b"x" * 32).next(question(), CURSOR)
    with pytest.raises(PageTokenInvalid):
        TOKENS.cursor(question(page_token=token))


def test_one_changed_character_anywhere_is_refused() -> None:
    token = TOKENS.next(question(), CURSOR)
    for place in range(len(token)):
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(PageTokenInvalid):
            TOKENS.cursor(question(page_token=token[:place] + other + token[place + 1 :]))


@pytest.mark.parametrize("text", ["?", "AAAA", "ä", "x" * 10_000, base64.urlsafe_b64encode(b"[1]" * 20).decode()])
def test_what_was_never_a_token_is_refused(text: str) -> None:
    with pytest.raises(PageTokenInvalid):
        TOKENS.cursor(question(page_token=text))


def test_a_value_no_cursor_can_hold_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="timedelta"):
        TOKENS.next(question(), (timedelta(1),))
