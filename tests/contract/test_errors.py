"""Each method names the reasons it may fail with, in an option that programs read and in its comment for people."""

import re

import pytest
from google.protobuf.descriptor import MethodDescriptor

from steelyard.accounting import errors
from steelyard.v1.errors_pb2 import ErrorReason
from steelyard.v1.options_pb2 import errors as documented
from tests.contract.descriptors import comments, methods

PREFIX = "ERROR_REASON_"
NAMES = [value.name for value in ErrorReason.DESCRIPTOR.values]
ALWAYS = {"INVALID_FIELD", "STORE_UNAVAILABLE", "INTERNAL"}
NEVER_SENT = {"PRECONDITION", "FENCE_LOST"}
"""Reasons of the domain that reach no caller: the base class of states, and a worker that was replaced."""
CODES = {
    "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "INTERNAL", "UNAVAILABLE",
}  # fmt: skip
FOLLOWS_FROM = {
    "PAGE_TOKEN_INVALID": {"page_token", "resume_token"},
    "RESUME_TOKEN_EXPIRED": {"resume_token"},
    "NOT_YET_VISIBLE": {"min_commit"},
    "REQUEST_ID_REUSED": {"request_id"},
    "VERSION_MISMATCH": {"expected_version", "expected_revision", "annotation_etag"},
    "LEG_OVERRUN": {"reject_overrun"},
}
every_method = pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)


def reasons(method: MethodDescriptor) -> list[str]:
    return [ErrorReason.Name(value).removeprefix(PREFIX) for value in method.GetOptions().Extensions[documented]]


@every_method
def test_every_method_documents_its_reasons_once_each(method: MethodDescriptor) -> None:
    named = reasons(method)
    assert set(named) >= ALWAYS
    assert len(named) == len(set(named))
    assert "UNSPECIFIED" not in named


@every_method
def test_the_comment_names_the_same_reasons_in_the_same_order(method: MethodDescriptor) -> None:
    text = comments()[f"{method.containing_service.name}.{method.name}"].text
    (line,) = re.findall(r"^ ?Errors: ((?:.|\n)*)\Z", text, re.MULTILINE)
    assert [name.strip() for name in line.split(",")] == reasons(method)


@every_method
def test_what_a_request_holds_implies_its_reasons_and_nothing_else_does(method: MethodDescriptor) -> None:
    fields = {field.name for field in method.input_type.fields}
    if method.client_streaming:
        header = method.input_type.fields_by_name.get("header")
        fields |= {field.name for field in header.message_type.fields} if header and header.message_type else set()
    for reason, causes in FOLLOWS_FROM.items():
        assert bool(causes & fields) == (reason in reasons(method)), reason


def test_every_reason_says_its_code_first() -> None:
    for value in NAMES:
        text = comments()[f"ErrorReason.{value}"].text
        code = text.partition(".")[0]
        assert code in CODES or value == f"{PREFIX}UNSPECIFIED", value


def test_every_reason_of_the_domain_is_one_of_the_contract() -> None:
    known = {name.removeprefix(PREFIX) for name in NAMES}
    assert {error.reason for error in domain_errors(errors.SteelyardError)} - known <= NEVER_SENT


def domain_errors(root: type[errors.SteelyardError]) -> list[type[errors.SteelyardError]]:
    return [root, *(below for child in root.__subclasses__() for below in domain_errors(child))]
