"""Functions of at most 40 lines, modules of at most 400; longer ones stand in lengths.txt, which only shrinks."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.layout.tree import python_files, read

FUNCTION_LINES = 40
MODULE_LINES = 400
EXCEPTIONS = Path(__file__).with_name("lengths.txt")
MEASURED = ("server", "clients", "migrations", "tests", "tools")


def too_long(source: str, *, name: str) -> Iterator[tuple[str, int]]:
    """The module and the functions of the source beyond their limit, as (name, lines)."""
    lines = len(source.splitlines())
    if lines > MODULE_LINES:
        yield name, lines
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{name}::{node.name}", length


def recorded_exceptions() -> dict[str, int]:
    lines = EXCEPTIONS.read_text(encoding="utf-8").splitlines()
    entries = (line.split() for line in lines if line.strip() and not line.startswith("#"))
    return {name: int(length) for name, length in entries}


def test_a_function_of_41_lines_and_a_module_of_401_are_found() -> None:
    function = "def fold():\n" + "    pass\n" * 40
    assert list(too_long(function, name="m")) == [("m::fold", 41)]
    assert list(too_long("x = 1\n" * 401, name="m")) == [("m", 401)]
    assert list(too_long("def fold():\n" + "    pass\n" * 39, name="m")) == []


def test_longer_functions_and_modules_stand_in_the_list_with_their_exact_length() -> None:
    """A grown entry fails, and so does one that shrank: then the list is shortened too."""
    actual = {
        name: lines for path in python_files(*MEASURED) for name, lines in too_long(read(path), name=path.as_posix())
    }
    assert actual == recorded_exceptions()
