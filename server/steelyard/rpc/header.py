"""What every answer begins with, and what a reader may ask of its age."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import Account
from steelyard.operations.ports import Commit
from steelyard.operations.reading import AS_IT_IS, Freshness, Seen, ServedFrom
from steelyard.rpc import decode, encode
from steelyard.rpc.calls import Context, seconds_left
from steelyard.v1 import common_pb2

MIN_COMMITS_MAX = 1_000

_SERVED_FROM = {
    ServedFrom.STORE: common_pb2.SERVED_FROM_STORE,
    ServedFrom.CACHE: common_pb2.SERVED_FROM_CACHE,
    ServedFrom.LAST_KNOWN: common_pb2.SERVED_FROM_LAST_KNOWN,
}


def write_header(commits: Iterable[Commit], *, at: datetime) -> common_pb2.ResponseHeader:
    """The header of a write: the commits it made, none when it changed nothing."""
    return _header(commits, at=at, served_from=common_pb2.SERVED_FROM_UNSPECIFIED)


def read_header(seen: Seen) -> common_pb2.ResponseHeader:
    """The header of a read: the commits of each account that its snapshot has seen, and where it was found."""
    return _header(seen.commits, at=seen.read_at, served_from=_SERVED_FROM[seen.served_from])


def freshness(commits: Sequence[common_pb2.Commit], context: Context) -> Freshness:
    """How new the answer must be (`min_commit`), and how long the caller waits for that. Raises `InvalidField`."""
    wait_s = seconds_left(context)
    if not commits:
        return AS_IT_IS if wait_s is None else Freshness(AS_IT_IS.min_commit, wait_s)
    wanted = {commit.account: commit.seq for commit in min_commit(commits)}
    return Freshness(wanted) if wait_s is None else Freshness(wanted, wait_s)


def min_commit(commits: Iterable[common_pb2.Commit]) -> tuple[Commit, ...]:
    """The commits an answer must not be older than, the largest of each account. Raises `InvalidField`."""
    wanted: dict[Account, int] = {}
    for index, commit in enumerate(commits):
        if index >= MIN_COMMITS_MAX:
            raise InvalidField("min_commit", f"holds more than {MIN_COMMITS_MAX} commits")
        account = decode.account(commit.account, field=f"min_commit[{index}].account")
        if commit.seq < 0:
            raise InvalidField(f"min_commit[{index}].seq", "must not be negative")
        wanted[account] = max(wanted.get(account, 0), commit.seq)
    return tuple(Commit(account, seq) for account, seq in sorted(wanted.items()))


def _header(
    commits: Iterable[Commit], *, at: datetime, served_from: common_pb2.ServedFrom.ValueType
) -> common_pb2.ResponseHeader:
    return common_pb2.ResponseHeader(
        commits=[common_pb2.Commit(account=commit.account, seq=commit.seq) for commit in commits],
        read_at=encode.timestamp(at),
        served_from=served_from,
    )
