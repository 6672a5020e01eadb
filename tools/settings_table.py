"""Writes the table of settings in `deploy/docs/SETTINGS.md` from `app/settings.py`, where each one is explained.

python tools/settings_table.py            writes the table
python tools/settings_table.py --check    ends with status 1 where it is not what it would write
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

from steelyard.app.settings import PREFIX, Settings

DOCUMENT = Path(__file__).parents[1] / "deploy" / "docs" / "SETTINGS.md"
BEGIN, END = "<!-- table: python tools/settings_table.py -->\n", "<!-- end of table -->\n"


def meanings() -> dict[str, str]:
    """What the source says of each setting, in one line; empty where its name says all."""
    (definition,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    latest = ""
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            latest = node.target.id
            found[latest] = ""
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and latest:
            found[latest] = " ".join(str(node.value.value).split())
            latest = ""
        else:
            latest = ""
    return found


def table() -> Iterator[str]:
    """The table, line by line."""
    told = meanings()
    yield "| Variable | Unless set | Meaning |\n"
    yield "|---|---|---|\n"
    for name, field in Settings.model_fields.items():
        meaning = told[name].replace("|", "\\|").replace("`", "")
        yield f"| `{PREFIX}{name.upper()}` | {_default(field)} | {meaning or _plain(name)} |\n"


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return "—"
    return "empty" if field.default == "" else "`" + str(field.default).replace("|", "\\|") + "`"


def _plain(name: str) -> str:
    """What a name says by itself."""
    text = name.removesuffix("_s").replace("_", " ")
    return f"{text[0].upper()}{text[1:]}{', seconds' if name.endswith('_s') else ''}."


def written(document: str) -> str:
    """The document with the table of now."""
    before, rest = document.split(BEGIN)
    return before + BEGIN + "\n" + "".join(table()) + "\n" + END + rest.split(END)[1]


def main() -> int:
    """Writes or checks; the exit status."""
    old = DOCUMENT.read_text(encoding="utf-8")
    new = written(old)
    if "--check" in sys.argv[1:]:
        if new != old:
            print(f"{DOCUMENT.name} is not up to date: run python tools/settings_table.py", file=sys.stderr)
        return int(new != old)
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
