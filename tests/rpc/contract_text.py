"""What the contract says in words: comments of its proto files, by name."""

from __future__ import annotations

import re
from pathlib import Path

PROTOS = Path(__file__).resolve().parents[2] / "protos" / "steelyard" / "v1"
_REASON = re.compile(r"((?:^ *// .*\n)+)^ *ERROR_REASON_(\w+) = \d+;", re.MULTILINE)


def comments_of_reasons() -> dict[str, str]:
    """Each error reason with its comment, on one line."""
    return {name: _joined(comment) for comment, name in _REASON.findall((PROTOS / "errors.proto").read_text())}


def _joined(comment: str) -> str:
    return " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
