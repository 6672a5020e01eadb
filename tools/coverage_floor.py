"""Fails when a room is tested less than it must be: reads the JSON report of coverage.

Usage: coverage_floor.py REPORT OVERALL ROOM=PERCENT ...
A ROOM is a folder, as `server/steelyard/accounting`; OVERALL is the floor of everything.
"""

import json
import sys
from pathlib import Path
from typing import Any


def covered_percent(files: dict[str, Any], *, folder: str) -> float | None:
    """Share of statements under the folder that ran, in percent; None where nothing was measured."""
    summaries = [entry["summary"] for name, entry in files.items() if Path(name).is_relative_to(folder)]
    statements: int = sum(summary["num_statements"] for summary in summaries)
    if not statements:
        return None
    covered: int = sum(summary["covered_lines"] for summary in summaries)
    return 100.0 * covered / statements


def shortfalls(files: dict[str, Any], *, floors: dict[str, float]) -> list[str]:
    """One line per folder below its floor; prints every folder's figure."""
    lines = []
    for folder, floor in floors.items():
        percent = covered_percent(files, folder=folder)
        shown = "nothing measured" if percent is None else f"{percent:.2f} %"
        print(f"coverage: {folder}: {shown} (floor {floor:g} %)")
        if percent is None or percent < floor:
            lines.append(f"coverage: {folder} is below its floor: {shown} of {floor:g} %")
    return lines


def main(arguments: list[str]) -> int:
    report, overall, *rooms = arguments
    files = json.loads(Path(report).read_text(encoding="utf-8"))["files"]
    floors = {".": float(overall)}
    for room in rooms:
        folder, _, percent = room.partition("=")
        floors[folder] = float(percent)
    failures = shortfalls(files, floors=floors)
    print("\n".join(failures), file=sys.stderr, end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
