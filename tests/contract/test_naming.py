"""One way to name things: requests, responses, headers, pages, times, decimals and enums."""

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor

from tests.contract.descriptors import enums, files, messages, methods, services

SERVICES = {
    "AdminService", "BuildService", "FillService", "MarketService", "PerformanceService", "PortfolioService",
    "PositionService", "ReconciliationService", "SnapshotService",
}  # fmt: skip
NOT_MONEY = {"BuildProgress.percent", "BuildProgress.rows_per_second"}
"""The only binary floating point numbers: how far a job is."""
FLOATS = {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}
FREE_FORM = {"google.protobuf.Any", "google.protobuf.Struct", "google.protobuf.Value"}
DECIMALS = ("_pnl", "price", "quantity", "exposure", "cost", "fees", "fee", "multiplier", "_rate")
TIMES = ("_at", "_from", "_before")
TIMES_BY_OTHER_NAMES = {"Mark.at", "GetPositionAsOfRequest.as_of"}
every_method = pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)


def test_the_contract_is_one_package_with_the_services_of_now() -> None:
    assert {file.package for file in files()} == {"steelyard.v1"}
    assert {service.name for service in services()} == SERVICES


@every_method
def test_every_method_has_a_request_and_a_response_of_its_own(method: MethodDescriptor) -> None:
    assert method.input_type.name == f"{method.name}Request"
    assert method.output_type.name == f"{method.name}Response"


@every_method
def test_every_response_begins_with_the_header(method: MethodDescriptor) -> None:
    header = method.output_type.fields_by_number[1]
    assert header.name == "header"
    assert header.message_type is not None
    assert header.message_type.name == "ResponseHeader"


@every_method
def test_every_list_is_paged_in_the_same_words(method: MethodDescriptor) -> None:
    asked = set(method.input_type.fields_by_name)
    answered = set(method.output_type.fields_by_name)
    is_list = method.name.startswith("List")
    assert is_list == ({"page_size", "page_token"} <= asked) == ("next_page_token" in answered)


@every_method
def test_every_write_that_no_fill_id_makes_repeatable_takes_a_request_id(method: MethodDescriptor) -> None:
    """Marks are repeatable by their own time; an import's id stands in its header."""
    verbs = (
        *("Upsert", "Update", "Set", "Create", "Cancel", "Retry", "Resolve", "Revoke", "Rollback"),
        *("RecordAdjustment", "ReportVenue", "RunReconciliation"),
    )
    assert method.name.startswith(verbs) == ("request_id" in method.input_type.fields_by_name)


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.name)
def test_fields_have_the_types_their_names_promise(message: Descriptor) -> None:
    for field in message.fields:
        name = f"{message.name}.{field.name}"
        assert (field.type in FLOATS) == (name in NOT_MONEY), name
        kind = field.message_type.full_name if field.message_type else ""
        assert kind not in FREE_FORM, name
        is_time = kind == "google.protobuf.Timestamp"
        assert not is_time or field.name.endswith(TIMES) or name in TIMES_BY_OTHER_NAMES, name
        assert is_time or not field.name.endswith("_at"), name
        if field.name.endswith(DECIMALS) and not field.is_repeated:
            assert field.type == FieldDescriptor.TYPE_STRING, name


@pytest.mark.parametrize("enum", enums(), ids=lambda enum: enum.name)
def test_enum_values_carry_their_prefix_and_zero_is_unspecified(enum: EnumDescriptor) -> None:
    prefix = "".join(f"_{letter}" if letter.isupper() else letter for letter in enum.name).strip("_").upper()
    assert enum.values[0].number == 0
    assert enum.values[0].name == f"{prefix}_UNSPECIFIED"
    assert all(value.name.startswith(f"{prefix}_") for value in enum.values)


def test_keys_have_a_book_wherever_they_have_a_leg() -> None:
    for message in messages():
        names = set(message.fields_by_name)
        if "leg" in names:
            assert "book" in names, message.name
