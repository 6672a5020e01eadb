"""Takes secrets out of what is about to be written: by the name of a field, by shape, and by value.

A line is looked through for known marks first (plain substring searches, under a microsecond), and only one that has
any is rewritten.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, MutableMapping
from typing import Any
from urllib.parse import quote

HIDDEN = "[hidden]"
SECRET_MIN = 6
"""Shorter values are no secrets worth looking for: they would hide half of every line."""
NAMES_KNOWN_MAX = 1_000
_NAMES = frozenset(
    {"password", "secret", "token", "authorization", "cookie", "dsn", "pepper", "credentials", "api_key", "apikey"}
)
_MARKS = ("://", "Bearer ", "x-api-key", "sy_", "password", "BEGIN ")
_SHAPES = re.compile(
    r"(?P<url>://[^\s/?#@:\"]*:)[^\s/?#\"]+@"
    r"|(?P<bearer>Bearer )[A-Za-z0-9._~+/=-]+"
    r"|(?P<key>\bsy_[a-z0-9]{8}_)[A-Za-z0-9_-]{20,}"
    r"|(?P<named>(?:x-api-key|password|passwd|pwd)[\"']?\s*[=:,]\s*[\"']?)[^\s\"',&)]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.DOTALL,
)


class Redaction:
    """What must appear nowhere: these values, and whatever looks like a secret."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= SECRET_MIN for form in _forms(secret)}
        self._known_names: dict[str, bool] = {}
        self._values = sorted(forms, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without secrets."""
        clean = text
        for value in self._values:
            if value in clean:
                clean = clean.replace(value, HIDDEN)
        for mark in _MARKS:
            if mark in clean:
                clean = _SHAPES.sub(_hidden, clean)
                break
        return clean

    def fields(self, _log: Any, _level: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A processor of structlog: hides the values of fields that are named like secrets."""
        known = self._known_names
        for name in fields:
            is_secret = known.get(name)
            if is_secret if is_secret is not None else self._is_secret(name):
                fields[name] = HIDDEN
        return fields

    def _is_secret(self, name: str) -> bool:
        plain = name.replace("-", "_")
        is_secret = plain in _NAMES or plain.endswith(("_password", "_secret", "_token", "api_key"))
        if len(self._known_names) < NAMES_KNOWN_MAX:
            self._known_names[name] = is_secret
        return is_secret

    def line(self, _log: Any, _level: str, line: Any) -> str:
        """A processor of structlog that stands after the renderer."""
        return self.text(line)


def _forms(secret: str) -> set[str]:
    """A secret as it stands in a text, in JSON and in a URL."""
    return {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote(secret)}


def _hidden(match: re.Match[str]) -> str:
    kept = match["url"] or match["bearer"] or match["key"] or match["named"] or ""
    return f"{kept}{HIDDEN}@" if match["url"] else f"{kept}{HIDDEN}"
