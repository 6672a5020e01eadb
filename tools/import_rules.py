"""Import-linter contracts the linter does not bring: what a room may use, and which rooms may use a library.

The linter's own `forbidden` contract needs the list of everything that is wrong; these state what is right,
so a library nobody has thought of yet is refused as well.
"""

import sys
from typing import Any

import grimp
from importlinter import Contract, ContractCheck, fields, output


def _rooms_modules(graph: grimp.ImportGraph, room: str) -> set[str]:
    """Every module of a room; none where the room does not exist yet."""
    return {room, *graph.find_descendants(room)} if room in graph.modules else set()


def _outside(graph: grimp.ImportGraph, *, namespace: str) -> set[str]:
    """Top-level names imported from outside the namespace."""
    return {module for module in graph.modules if module.partition(".")[0] != namespace}


def _line_of(graph: grimp.ImportGraph, *, importer: str, imported: str) -> str:
    details = graph.get_import_details(importer=importer, imported=imported)
    lines = ", ".join(f"l.{detail['line_number']}" for detail in details)
    return f"{importer} -> {imported} ({lines})"


def _result(violations: list[str]) -> ContractCheck:
    return ContractCheck(kept=not violations, metadata={"violations": sorted(violations)})


class _LineByLine(Contract):
    """Prints each violation on a line of its own."""

    def render_broken_contract(self, check: ContractCheck) -> None:
        for violation in check.metadata["violations"]:
            output.print_error(f"-   {violation}")
        output.new_line()


class AllowedLibrariesContract(_LineByLine):
    """The rooms may import these outside modules and no others.

    Options: `rooms` (full module names), `allowed` (top-level names; `stdlib` stands for the standard
    library) and `except_for` (names taken out of it again).
    """

    type_name = "allowed_libraries"
    rooms: Any = fields.ListField(subfield=fields.StringField())
    allowed: Any = fields.SetField(subfield=fields.StringField())
    except_for: Any = fields.SetField(subfield=fields.StringField(), required=False)

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:  # noqa: FBT001 # the linter's signature
        allowed = set(self.allowed)
        if "stdlib" in allowed:
            allowed |= sys.stdlib_module_names
        allowed -= set(self.except_for or ())
        outside = _outside(graph, namespace=self.session_options["root_packages"][0])
        violations = [
            _line_of(graph, importer=importer, imported=imported)
            for room in self.rooms
            for importer in _rooms_modules(graph, room)
            for imported in graph.find_modules_directly_imported_by(importer) & outside
            if imported.partition(".")[0] not in allowed
        ]
        return _result(violations)


class AllowedRoomsContract(_LineByLine):
    """The rooms may directly import themselves and these other rooms of the namespace, and no others.

    Options: `rooms` and `allowed` (full module names).
    """

    type_name = "allowed_rooms"
    rooms: Any = fields.ListField(subfield=fields.StringField())
    allowed: Any = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:  # noqa: FBT001 # the linter's signature
        outside = _outside(graph, namespace=self.session_options["root_packages"][0])
        shared = set().union(*(_rooms_modules(graph, room) for room in self.allowed or ()))
        violations = [
            _line_of(graph, importer=importer, imported=imported)
            for room in self.rooms
            for importer in _rooms_modules(graph, room)
            for imported in graph.find_modules_directly_imported_by(importer) - outside - shared
            if imported not in _rooms_modules(graph, room)
        ]
        return _result(violations)


class LibraryRoomsContract(_LineByLine):
    """The libraries may be imported directly by these rooms and no others.

    Options: `libraries` (top-level names) and `rooms` (full module names).
    """

    type_name = "library_rooms"
    libraries: Any = fields.SetField(subfield=fields.StringField())
    rooms: Any = fields.ListField(subfield=fields.StringField())

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:  # noqa: FBT001 # the linter's signature
        permitted = set().union(*(_rooms_modules(graph, room) for room in self.rooms))
        outside = _outside(graph, namespace=self.session_options["root_packages"][0])
        violations = [
            _line_of(graph, importer=importer, imported=library)
            for library in outside & set(self.libraries)
            for importer in graph.find_modules_that_directly_import(library)
            if importer not in permitted
        ]
        return _result(violations)
