"""Values as they lie in Redis: behind a seal over their name and content.

A seal is checked on the way out. It catches a value of another name (a connection that gave the answer to somebody
else's question), one that was cut or altered, and, where the service has a key of its own, one that somebody else
wrote.
"""

from __future__ import annotations

import hashlib
import hmac

SEAL_BYTES = 16


def seal(name: str, value: bytes, *, key: bytes) -> bytes:
    """A value behind its seal."""
    return _seal_of(name, value, key=key) + value


def unseal(name: str, sealed: bytes, *, key: bytes) -> bytes | None:
    """The value, if it was sealed under this name with this key."""
    value = sealed[SEAL_BYTES:]
    return value if hmac.compare_digest(sealed[:SEAL_BYTES], _seal_of(name, value, key=key)) else None


def _seal_of(name: str, value: bytes, *, key: bytes) -> bytes:
    of = hashlib.blake2b(digest_size=SEAL_BYTES, key=hashlib.sha256(key).digest())
    of.update(name.encode() + b"\0" + value)
    return of.digest()
