"""The key that page and resume tokens are signed with: the setting's, else one kept beside the embedded database."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from steelyard.app.settings import Settings

FILE_NAME = "page_token.key"
KEY_BYTES = 32


def with_token_key(settings: Settings) -> Settings:
    """The settings with a key: on the embedded database the one kept in its folder, so that tokens outlive a restart
    as the data does; on another database without a setting a new one for each start. Raises `OSError`."""
    if settings.page_token_key is not None:
        return settings
    is_embedded = settings.database_url is None
    key = kept_key(settings.folder / FILE_NAME) if is_embedded else secrets.token_hex(KEY_BYTES)
    return settings.model_copy(update={"page_token_key": SecretStr(key)})


def kept_key(path: Path) -> str:
    """The key in a file that only its owner may read; made when there is none. Raises `OSError`."""
    try:
        kept = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        kept = ""
    if len(kept) >= 2 * KEY_BYTES:
        return kept
    key = secrets.token_hex(KEY_BYTES)
    # Whole or not at all: half a key would be taken for one at the next start.
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return key
