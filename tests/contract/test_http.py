"""Each method has a place in HTTP, no two the same, and a request that fits into it."""

import re

import pytest
from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from tests.contract.descriptors import methods

PROMISED = {
    ("get", "/api/v1/positions"): "ListPositions",
    ("get", "/api/v1/positions/{instrument}"): "GetPosition",
    ("get", "/api/v1/portfolio"): "GetPortfolio",
    ("get", "/api/v1/portfolio/exposure"): "GetExposure",
    ("get", "/api/v1/portfolio/pnl"): "GetPnl",
    ("get", "/api/v1/positions/build-status/{build_id}"): "GetBuild",
    ("post", "/api/v1/builds"): "CreateBuild",
    ("post", "/api/v1/builds/{build_id}/cancel"): "CancelBuild",
    ("post", "/api/v1/builds/{build_id}/retry"): "RetryBuild",
    ("post", "/api/v1/fills"): "RecordFill",
    ("get", "/api/v1/performance/daily"): "GetDailyPerformance",
    ("get", "/api/v1/performance/weekly"): "GetWeeklyPerformance",
    ("get", "/health"): "GetServiceStatus",
}
WITHOUT_VERSION = {"/health"}
"""Where probes look, whatever the version of the contract."""
BY_BODY_ONLY = {"min_commit"}
"""Repeated messages cannot stand in a query; these are of no use to a browser."""
every_method = pytest.mark.parametrize(
    "method",
    # HTTP has no way to talk in both directions at once.
    [method for method in methods() if not (method.client_streaming and method.server_streaming)],
    ids=lambda method: method.name,
)


def rules(method: MethodDescriptor) -> list[tuple[str, str, str]]:
    """(verb, path, body) of a method, its further places included."""
    rule: HttpRule = method.GetOptions().Extensions[annotations_pb2.http]
    found = []
    for each in (rule, *rule.additional_bindings):
        verb = each.WhichOneof("pattern")
        found.append((verb or "", getattr(each, verb) if verb else "", each.body))
    return found


@every_method
def test_every_method_has_a_place_below_the_version(method: MethodDescriptor) -> None:
    for verb, path, body in rules(method):
        assert verb in {"get", "post"}
        assert path.startswith("/api/v1/") or path in WITHOUT_VERSION
        assert body == ("" if verb == "get" else "*")


def test_no_two_methods_share_a_place() -> None:
    places = [
        (verb, re.sub(r"\{[^}]*\}", "{}", path)) for method in methods() for verb, path, _ in rules(method) if path
    ]
    assert len(places) == len(set(places))


def test_the_questions_of_the_former_systems_stand_at_their_places() -> None:
    places = {(verb, path): method.name for method in methods() for verb, path, _ in rules(method)}
    assert {place: places.get(place) for place in PROMISED} == PROMISED


@every_method
def test_what_stands_in_a_path_is_a_text_field_of_the_request(method: MethodDescriptor) -> None:
    for _, path, _ in rules(method):
        for name in re.findall(r"\{([^}]*)\}", path):
            assert method.input_type.fields_by_name[name].type == FieldDescriptor.TYPE_STRING


@every_method
def test_a_question_asked_by_query_has_only_fields_a_query_can_hold(method: MethodDescriptor) -> None:
    if rules(method)[0][0] == "get":
        assert unaskable(method.input_type) <= BY_BODY_ONLY


@every_method
def test_a_name_that_may_hold_a_slash_can_also_be_given_by_query(method: MethodDescriptor) -> None:
    """Instruments, fills and accounts may hold `/`; ids that we make do not."""
    paths = [path for verb, path, _ in rules(method) if verb == "get"]
    if any(re.search(r"\{(instrument|fill_id|account)\}", path) for path in paths):
        assert any("{" not in path for path in paths)


def unaskable(message: Descriptor) -> set[str]:
    """Names of the fields below a request that are repeated messages or maps."""
    found = set()
    for field in message.fields:
        if field.message_type is not None and field.is_repeated:
            found.add(field.name)
        elif field.message_type is not None and field.message_type.file.package == "steelyard.v1":
            found |= unaskable(field.message_type)
    return found
