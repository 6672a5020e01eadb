"""What has to be remembered from row to row, in memory that does not grow with the file.

Problem: equal-second executions are told apart by their rank among the rows of the same account, instrument and
second, and rows without id by how often their content came before. Exact counters for every second of a 5 M row
file would need hundreds of megabytes.

Example: a file grouped by account visits 9:06:48 of one contract once, a file sorted by time visits it once as well.
Only a shuffled file comes back to a second that it had left.

Choice: per account and instrument the current second with its count, and the newest and oldest seconds seen. A
second beyond both is new, so its ranks are exact from 0: that is every file in time order, either way. Counts of
seconds that were left go into a table of fixed size; a second that is visited again goes on from there. Two seconds
may share a cell; then a rank skips numbers, which harms nothing: within a second it still rises with the file.
Occurrences must be exact (a wrong one would drop or double a fill), so their table is a dictionary of named size
that knows which seconds it has forgotten; a row without id that falls into those is refused, never guessed.

Rejected: the row number as sequence (the same fill would have another one in every export); a restart at 0 for
a second visited again (fills would be folded in the order of their ids).
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from hashlib import sha256
from zlib import crc32

from steelyard.imports.rows import PARSING, RowError

KEYS_MAX = 100_000
"""Accounts and instruments whose state is kept at once."""
CELLS = 2**20
OCCURRENCES_MAX = 100_000
"""Distinct rows without id that are remembered."""
ROW_ID_PREFIX = "row:"
_AFTER_ALL = "~"


class KeyState:
    """What was last seen of one account and instrument. Seconds are UTC texts `YYYY-MM-DD HH:MM:SS`."""

    __slots__ = (
        "forgotten_from",
        "forgotten_to",
        "held",
        "is_backwards",
        "newest",
        "oldest",
        "rank",
        "salt",
        "second",
    )

    def __init__(self, *, salt: int, is_new: bool) -> None:
        self.salt = salt
        self.second = ""
        self.rank = 0
        # A key that was known once and dropped may come back to any second.
        self.newest = "" if is_new else _AFTER_ALL
        self.oldest = _AFTER_ALL if is_new else ""
        self.forgotten_from = _AFTER_ALL if is_new else ""
        self.forgotten_to = "" if is_new else _AFTER_ALL
        self.held: int | None = None
        """The running position in units of 1e-18; None while it is unknown."""
        self.is_backwards = False
        """The last change of second was a step back: the running position proves nothing."""


class Ranks:
    """The states of all keys of one file and the counts of the seconds they have left."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], KeyState] = {}
        self._cells = array("I", bytes(4 * CELLS))
        self._has_dropped = False

    @property
    def is_full(self) -> bool:
        """Whether another key would be one too many: caches of states have to go with `drop`."""
        return len(self._keys) >= KEYS_MAX

    def drop(self) -> None:
        """Forgets all states; what their seconds have counted stays in the table."""
        for key in self._keys.values():
            cell = crc32(key.second.encode(), key.salt) % CELLS
            self._cells[cell] = max(self._cells[cell], key.rank + 1)
        self._keys.clear()
        self._has_dropped = True

    def key(self, account: str, instrument: str) -> KeyState:
        """The state of an account and instrument, the same object as long as it is kept."""
        state = self._keys.get((account, instrument))
        if state is None:
            salt = crc32(f"{account}\t{instrument}".encode())
            state = KeyState(salt=salt, is_new=not self._has_dropped)
            self._keys[account, instrument] = state
        return state

    def advance(self, key: KeyState, second: str) -> int:
        """The rank of a row whose second is not that of the row before it; makes that second the current one."""
        # Written out, not called: a file of sparse executions comes here with every row.
        left, cells = key.second, self._cells
        if left:
            cell = crc32(left.encode(), key.salt) % CELLS
            if cells[cell] <= key.rank:
                cells[cell] = key.rank + 1
        key.second = second
        key.is_backwards = second < left
        is_new = second > key.newest
        if is_new:
            key.newest = second
        if second < key.oldest:
            key.oldest = second
            is_new = True
        key.rank = 0 if is_new else cells[crc32(second.encode(), key.salt) % CELLS]
        return key.rank


class Occurrences:
    """Ids for rows without one: a hash of the content and the how-manieth row with it in the file this is."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, tuple[int, KeyState, str]] = OrderedDict()

    def row_id(self, content: str, *, key: KeyState, second: str, column: str) -> str:
        """The id of a row; a longer file gives its first rows the same ids. Raises `RowError`."""
        digest = sha256(content.encode()).digest()[:16]
        known = self._seen.get(digest)
        if known is None and key.forgotten_from <= second <= key.forgotten_to:
            reason = "is missing, and the row is too far out of time order to be numbered: sort the file by time"
            raise RowError(PARSING, column, reason=reason)
        count = known[0] + 1 if known else 1
        self._seen[digest] = (count, key, second)
        if len(self._seen) > OCCURRENCES_MAX:
            self._forget_oldest()
        return f"{ROW_ID_PREFIX}{digest.hex()}:{count}"

    def _forget_oldest(self) -> None:
        _, (_, key, second) = self._seen.popitem(last=False)
        key.forgotten_from = min(key.forgotten_from, second)
        key.forgotten_to = max(key.forgotten_to, second)
