"""The contract as the compiler sees it: every service, method, message and enum, with the comments of their sources."""

import functools
import importlib
import pkgutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor import Descriptor as MessageDescriptor
from google.protobuf.descriptor import EnumDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet

import steelyard.v1
from tools import protos


@functools.cache
def files() -> tuple[FileDescriptor, ...]:
    """Every file of the contract, from the committed stubs."""
    names = sorted(
        module.name for module in pkgutil.iter_modules(steelyard.v1.__path__) if module.name.endswith("_pb2")
    )
    return tuple(importlib.import_module(f"steelyard.v1.{name}").DESCRIPTOR for name in names)


def services() -> list[ServiceDescriptor]:
    """Every service."""
    return [service for file in files() for service in file.services_by_name.values()]


def methods() -> list[MethodDescriptor]:
    """Every method of every service."""
    return [method for service in services() for method in service.methods]


def messages() -> list[MessageDescriptor]:
    """Every message written in a proto; the entries of maps are not."""
    return [message for file in files() for message in file.message_types_by_name.values()]


def enums() -> list[EnumDescriptor]:
    """Every enum."""
    return [enum for file in files() for enum in file.enum_types_by_name.values()]


@dataclass(frozen=True, slots=True)
class Comment:
    """What stands above one thing of the contract."""

    kind: str
    """service, rpc, message, field, oneof, enum, value or extension."""
    name: str
    """Its full name below the package: `FillService.RecordFill`, `Fill.price`."""
    text: str


@functools.cache
def comments() -> dict[str, Comment]:
    """The comment of everything in protos/, by name; empty text where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "contract.binpb"
        protos.run_protoc("--include_source_info", f"--descriptor_set_out={target}", files=protos.sources())
        described = FileDescriptorSet.FromString(target.read_bytes())
    return {comment.name: comment for file in described.file for comment in _comments_of(file)}


def _comments_of(file: FileDescriptorProto) -> Iterator[Comment]:
    texts = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
    for index, message in enumerate(file.message_type):
        yield from _of_message(message, (4, index), texts=texts)
    for index, enum in enumerate(file.enum_type):
        yield from _of_enum(enum, (5, index), texts=texts)
    for index, service in enumerate(file.service):
        yield Comment("service", service.name, texts.get((6, index), ""))
        for place, method in enumerate(service.method):
            yield Comment("rpc", f"{service.name}.{method.name}", texts.get((6, index, 2, place), ""))
    for index, extension in enumerate(file.extension):
        yield Comment("extension", extension.name, texts.get((7, index), ""))


def _of_message(
    message: DescriptorProto, path: tuple[int, ...], *, texts: dict[tuple[int, ...], str]
) -> Iterator[Comment]:
    assert not message.enum_type, f"{message.name}: enums stand at the top of a file"
    assert all(nested.options.map_entry for nested in message.nested_type), f"{message.name}: messages do not nest"
    yield Comment("message", message.name, texts.get(path, ""))
    for index, field in enumerate(message.field):
        yield Comment("field", f"{message.name}.{field.name}", texts.get((*path, 2, index), ""))
    unwritten = {field.oneof_index for field in message.field if field.proto3_optional}
    for index, oneof in enumerate(message.oneof_decl):
        if index not in unwritten:
            yield Comment("oneof", f"{message.name}.{oneof.name}", texts.get((*path, 8, index), ""))


def _of_enum(
    enum: EnumDescriptorProto, path: tuple[int, ...], *, texts: dict[tuple[int, ...], str]
) -> Iterator[Comment]:
    yield Comment("enum", enum.name, texts.get(path, ""))
    for index, value in enumerate(enum.value):
        yield Comment("value", f"{enum.name}.{value.name}", texts.get((*path, 2, index), ""))
