"""A private PostgreSQL started from binaries, for development, the demo and the tests.

Owns: finding the binaries, the data directory and its lock, the life of the server process.
May not: know tables or SQL, read settings other than STEELYARD_PG_BIN, import another room, change
permissions of directories it did not make, or leave a server behind when its owner is gone.
"""

from steelyard.embedded.binaries import Binaries, find_binaries
from steelyard.embedded.errors import EmbeddedError, EmbeddedReason
from steelyard.embedded.launcher import EmbeddedPostgres

__all__ = ["Binaries", "EmbeddedError", "EmbeddedPostgres", "EmbeddedReason", "find_binaries"]
