"""What the contract says in words: comments of its proto files, by name."""

from __future__ import annotations

import re
from pathlib import Path

PROTOS = Path(__file__).resolve().parents[2] / "protos" / "steelyard" / "v1"
_REASON = re.compile(r"((?:^ *// .*\n)+)^ *ERROR_REASON_(\w+) = \d+;", re.MULTILINE)
_RPC = re.compile(r"((?:^ *//.*\n)+)^ *rpc (\w+)\(", re.MULTILINE)
_ERRORS = re.compile(r"Errors: ([A-Z_, ]+)")


def comments_of_reasons() -> dict[str, str]:
    """Each error reason with its comment, on one line."""
    return {name: _joined(comment) for comment, name in _REASON.findall((PROTOS / "errors.proto").read_text())}


def documented_errors() -> dict[str, set[str]]:
    """Each rpc with the reasons that its comment lists."""
    found = {}
    for path in PROTOS.glob("*_service.proto"):
        for comment, name in _RPC.findall(path.read_text()):
            match = _ERRORS.search(_joined(comment))
            found[name] = set(match[1].replace(" ", "").strip(",").split(",")) if match else set()
    return found


def _joined(comment: str) -> str:
    return " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
