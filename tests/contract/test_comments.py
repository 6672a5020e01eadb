"""Everything in the contract says what it means; what a caller may leave out says what is meant then."""

import re

import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from tests.contract.descriptors import Comment, comments, messages, methods

SAYS_WHAT_ABSENCE_MEANS = re.compile(r"\b(Default|Unset|[Rr]equired)\b")


def test_everything_has_a_comment_in_sentences() -> None:
    everything = comments().values()
    assert len(everything) > 500
    silent = [f"{each.kind} {each.name}" for each in everything if not re.search(r"[.;]\s*$|Errors: ", each.text)]
    assert silent == []


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_every_method_says_what_it_answers_before_its_errors(method: MethodDescriptor) -> None:
    text = comments()[f"{method.containing_service.name}.{method.name}"].text
    said, found, _ = text.partition("Errors: ")
    assert found
    assert len(said.split()) >= 3


def test_every_field_a_caller_may_leave_out_says_what_is_meant_then() -> None:
    """Fields of requests, and of the messages they carry, that are neither required, output only nor a choice."""
    silent = [
        comment.name
        for field, comment in request_fields().items()
        if not is_required_or_output(field)
        and (field.containing_oneof is None or is_optional(field))
        and not SAYS_WHAT_ABSENCE_MEANS.search(comment.text)
    ]
    assert silent == []


def test_what_may_be_absent_says_when() -> None:
    silent = [
        comment.name
        for message in messages()
        for field, comment in commented_fields(message).items()
        if is_optional(field) and not re.search(r"\b(unset|default|only|required)\b", comment.text.lower())
    ]
    assert silent == []


def commented_fields(message: Descriptor) -> dict[FieldDescriptor, Comment]:
    """The fields of a message with what stands above them."""
    return {field: comments()[f"{message.name}.{field.name}"] for field in message.fields}


def request_fields() -> dict[FieldDescriptor, Comment]:
    """The fields of every request, and of every message of ours below it."""
    waiting = [method.input_type for method in methods()]
    seen: dict[str, Descriptor] = {}
    while waiting:
        message = waiting.pop()
        if message.full_name in seen or message.file.package != "steelyard.v1" or message.GetOptions().map_entry:
            continue
        seen[message.full_name] = message
        waiting += [field.message_type for field in message.fields if field.message_type is not None]
    return {field: comment for message in seen.values() for field, comment in commented_fields(message).items()}


def is_optional(field: FieldDescriptor) -> bool:
    oneof = field.containing_oneof
    return oneof is not None and oneof.name.startswith("_")


def is_required_or_output(field: FieldDescriptor) -> bool:
    behaviour = set(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])
    return bool(behaviour & {field_behavior_pb2.REQUIRED, field_behavior_pb2.OUTPUT_ONLY})
