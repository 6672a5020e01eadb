"""The top level is fixed, the namespace stays open, and every room says what it is."""

import ast
import re
from pathlib import Path

import pytest

from tests.layout.tree import ROOT, SOURCE_ROOTS, WRITTEN_ROOTS, python_files, read, tracked_files

TOP_LEVEL = {
    ".ci", ".dockerignore", ".gitignore", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "Makefile", "README.md",
    "buf.yaml", "clients", "deploy", "generated", "migrations", "protos", "pyproject.toml", "requirements.lock",
    "server", "tests", "third_party", "tools",
}  # fmt: skip


def rooms() -> list[Path]:
    """The folders `<source root>/steelyard/<room>` that hold Python written by hand."""
    return sorted({Path(*path.parts[:3]) for path in python_files(*WRITTEN_ROOTS) if len(path.parts) > 3})


def test_the_top_level_holds_only_what_is_agreed() -> None:
    assert {path.parts[0] for path in tracked_files()} <= TOP_LEVEL


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_no_source_root_closes_the_namespace(root: str) -> None:
    """An `__init__.py` directly in `steelyard/` would hide the other three roots."""
    assert not (ROOT / root / "__init__.py").exists()
    assert not (ROOT / root / "steelyard" / "__init__.py").exists()
    loose = [path for path in python_files(root) if len(path.parts) < 4]
    assert loose == []


def test_every_room_says_what_it_owns_and_what_it_may_not_do() -> None:
    borders = re.compile(r"\b(may|know|knows|never|closed|only|no)\b", re.IGNORECASE)
    for room in rooms():
        text = ast.get_docstring(ast.parse(read(room / "__init__.py"))) or ""
        assert len(text) > 80, f"{room}/__init__.py says too little"
        assert borders.search(text), f"{room}/__init__.py names no border"


def test_every_module_says_what_it_is() -> None:
    silent = [
        path.as_posix()
        for path in python_files(*WRITTEN_ROOTS, "tools")
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(read(path)))
    ]
    assert silent == []


def test_ports_are_protocols_and_the_values_they_carry() -> None:
    """A port is fulfilled by shape: a class of ports.py is a Protocol, or a frozen value one of them carries."""
    path = Path("server/steelyard/operations/ports.py")
    classes = [node for node in ast.parse(read(path)).body if isinstance(node, ast.ClassDef)]
    strays = [node.name for node in classes if not (is_protocol(node) or is_value(node))]
    assert strays == []
    assert any(is_protocol(node) for node in classes)


def is_protocol(node: ast.ClassDef) -> bool:
    return any("Protocol" in ast.unparse(base) for base in node.bases)


def is_value(node: ast.ClassDef) -> bool:
    decorators = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
    bases = " ".join(ast.unparse(base) for base in node.bases)
    return "frozen=True" in decorators or "Enum" in bases or "NamedTuple" in bases
