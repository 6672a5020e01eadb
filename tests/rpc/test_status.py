"""Every domain error has one code, one reason and one ErrorInfo; what is none of ours keeps its text to itself."""

from __future__ import annotations

import inspect
from typing import TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from steelyard.accounting import errors
from steelyard.rpc import status
from steelyard.v1 import errors_pb2

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.SteelyardError)]
# Never raised themselves, or never towards a caller.
WITHOUT_REASON = {errors.SteelyardError, errors.PreconditionError, errors.FenceLost}

D = TypeVar("D", bound=Message)


def example(kind: type[errors.SteelyardError]) -> errors.SteelyardError:
    if kind is errors.InvalidField:
        return errors.InvalidField("fill.price", "must be greater than zero")
    if kind is errors.NotFound:
        return errors.NotFound("build", "b1")
    if kind is errors.RateLimited:
        return errors.RateLimited("calls", limit=100, period_s=60, retry_after_s=12.5)
    return kind()


def details(error: BaseException, kind: type[D]) -> list[D]:
    found = []
    for packed in status.status_of(error, trace_id="t1").details:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


def test_the_table_names_every_error_class_and_nothing_else() -> None:
    assert set(status.CODES) == set(CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_answered_with_exactly_one_error_info_of_our_domain(kind: type[errors.SteelyardError]) -> None:
    error = example(kind)
    (info,) = details(error, error_details_pb2.ErrorInfo)
    assert info.domain == "steelyard"
    assert info.reason == status.reason_of(error)
    assert f"ERROR_REASON_{info.reason}" in errors_pb2.ErrorReason.keys()  # noqa: SIM118 - an enum wrapper, no dict
    answered = status.status_of(error, trace_id="t1")
    assert status.grpc_code(answered) is status.CODES[kind]


def test_who_asked_too_often_is_told_his_quota_and_when_to_come_back() -> None:
    error = example(errors.RateLimited)
    (quota,) = details(error, error_details_pb2.QuotaFailure)
    assert [(each.subject, each.description) for each in quota.violations] == [
        ("calls", "100 calls a minute are allowed")
    ]
    (retry,) = details(error, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 12_500


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind not in WITHOUT_REASON], ids=lambda k: k.__name__)
def test_the_reason_on_the_wire_is_the_reason_of_the_error(kind: type[errors.SteelyardError]) -> None:
    assert status.reason_of(example(kind)) == kind.reason


def test_the_comment_of_a_reason_names_the_code_it_comes_with() -> None:
    """The contract says the code of each reason in words; the table must say the same."""
    from tests.rpc.contract_text import comments_of_reasons

    comments = comments_of_reasons()
    for kind in CLASSES:
        if kind not in WITHOUT_REASON:
            assert comments[kind.reason].startswith(f"{status.CODES[kind].name}."), kind


def test_an_invalid_field_is_named_by_its_path() -> None:
    (bad,) = details(errors.InvalidField("fill.price", "must be greater than zero"), error_details_pb2.BadRequest)
    assert [(one.field, one.description) for one in bad.field_violations] == [
        ("fill.price", "must be greater than zero")
    ]


def test_a_wrong_state_is_told_as_a_precondition() -> None:
    error = errors.UnknownInstrument("XYZ has no record", instrument="XYZ")
    (failure,) = details(error, error_details_pb2.PreconditionFailure)
    (violation,) = failure.violations
    assert (violation.type, violation.subject) == ("UNKNOWN_INSTRUMENT", "XYZ")


@pytest.mark.parametrize("error", [errors.QueueFull(), errors.StoreUnavailable(), errors.NotYetVisible()])
def test_what_passes_by_itself_says_when_to_try_again(error: errors.SteelyardError) -> None:
    (retry,) = details(error, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() > 0


def test_a_missing_thing_is_named() -> None:
    (info,) = details(errors.NotFound("build", "b1"), error_details_pb2.ResourceInfo)
    assert (info.resource_type, info.resource_name) == ("build", "b1")


def test_a_stale_version_tells_the_current_one() -> None:
    (info,) = details(errors.VersionMismatch("it is 7", current_version="7"), error_details_pb2.ErrorInfo)
    assert info.metadata["current_version"] == "7"


@pytest.mark.parametrize("bug", [RuntimeError("password=1"), errors.InvariantBroken("q != 3"), errors.FenceLost("w7")])
def test_the_text_of_a_bug_is_withheld_and_a_trace_id_given(bug: Exception) -> None:
    answered = status.status_of(bug, trace_id="t1")
    assert status.grpc_code(answered) is grpc.StatusCode.INTERNAL
    assert answered.message == "internal error, trace id t1"
    assert str(bug).encode() not in answered.SerializeToString()


def test_long_texts_are_cut_so_that_they_fit_into_trailers() -> None:
    error = errors.UnknownInstrument("x" * 100_000, instrument="y" * 100_000)
    assert len(status.status_of(error, trace_id="t1").SerializeToString()) < 4_096
