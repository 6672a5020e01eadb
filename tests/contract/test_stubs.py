"""The committed stubs are what protos/ gives, and the copied protos are those of the installed package."""

import shutil
from pathlib import Path

import google.type.date_pb2
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tools import protos

GOOGLE = Path(google.type.date_pb2.__file__).parent.parent


def test_the_committed_stubs_are_fresh() -> None:
    assert protos.stale() == []


def test_the_same_protos_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        protos.generate(tmp_path / name)
    assert protos.files_below(tmp_path / "first") == protos.files_below(tmp_path / "second")


def test_a_stub_edited_left_over_or_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "generated"
    shutil.copytree(protos.GENERATED, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(protos, "GENERATED", copy)
    package = copy / protos.PACKAGE
    with (package / "fill_pb2.pyi").open("a", encoding="utf-8") as stub:
        stub.write("# edited\n")
    (package / "forgotten_pb2.py").write_text("", encoding="utf-8")
    (package / "market_pb2.py").unlink()
    assert protos.stale() == [
        "steelyard/v1/fill_pb2.pyi",
        "steelyard/v1/forgotten_pb2.py",
        "steelyard/v1/market_pb2.py",
    ]
    protos.write()
    assert protos.stale() == []


def test_copied_protos_are_those_of_the_installed_package() -> None:
    copies = sorted((protos.ROOT / "third_party").rglob("*.proto"))
    assert len(copies) == 4
    for copy in copies:
        name = copy.relative_to(protos.ROOT / "third_party" / "google")
        assert copy.read_bytes() == (GOOGLE / name).read_bytes(), name


def test_only_files_with_a_service_have_service_stubs() -> None:
    generated = protos.files_below(protos.GENERATED)
    with_service = {name for name in generated if name.endswith("_pb2_grpc.py")}
    assert with_service == {source.replace(".proto", "_pb2_grpc.py") for source in protos.sources(services_only=True)}
    for source in protos.sources():
        text = (protos.PROTOS / source).read_text(encoding="utf-8")
        assert ("\nservice " in text) == source.endswith("_service.proto"), source


def test_the_released_contract_stands_in_the_tree_with_every_import() -> None:
    """What `make contract` compares with; a shallow clone has no history to compare with."""
    released = FileDescriptorSet.FromString(protos.BASELINE.read_bytes())
    names = {file.name for file in released.file}
    assert {dependency for file in released.file for dependency in file.dependency} <= names
    assert any(file.package == "steelyard.v1" and file.service for file in released.file)
