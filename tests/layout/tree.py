"""The tree as git sees it: what is committed or about to be, nothing that tools left behind."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("generated", "server", "clients", "migrations")
WRITTEN_ROOTS = ("server", "clients", "migrations")


def tracked_files() -> list[Path]:
    """Every file of the project, relative to its root: tracked, or new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (ROOT / (path := Path(name))).is_file()]


def python_files(*folders: str) -> list[Path]:
    """The Python files under the folders, relative to the root."""
    return [path for path in tracked_files() if path.suffix == ".py" and path.parts[0] in folders]


def read(path: Path) -> str:
    """The text of a file named relative to the root."""
    return (ROOT / path).read_text(encoding="utf-8")
