"""Keys of the API between the wire and the operations."""

from __future__ import annotations

from collections.abc import Mapping

from steelyard.accounting.errors import InvalidField
from steelyard.operations.access import BUILDS_MAX, FILLS_PER_SECOND, STREAMS_MAX, ApiKey, KeyTerms, Tier
from steelyard.rpc import decode, encode
from steelyard.rpc.access import SCOPES
from steelyard.v1 import access_pb2

KEY_ACCOUNTS_MAX = 1_000
RATE_MAX = 1_000_000
STREAMS_MAX_ASKED = 1_000
BUILDS_MAX_ASKED = 100
TIERS: Mapping[access_pb2.Tier.ValueType, Tier] = {
    access_pb2.TIER_UNSPECIFIED: Tier.DEFAULT,
    access_pb2.TIER_DEFAULT: Tier.DEFAULT,
    access_pb2.TIER_MODEL: Tier.MODEL,
    access_pb2.TIER_RISK: Tier.RISK,
    access_pb2.TIER_UI: Tier.UI,
}
_SCOPE_NUMBERS = {scope: number for number, scope in SCOPES.items()}
_TIER_NUMBERS = {tier: number for number, tier in TIERS.items()}


def key_terms(asked: access_pb2.ApiKey) -> KeyTerms:
    """What a key is asked to be good for. Raises `InvalidField`."""
    for place, scope in enumerate(asked.scopes):
        if scope not in SCOPES:
            raise InvalidField(f"key.scopes[{place}]", "is not a scope that a key can have")
    if asked.tier not in TIERS:
        raise InvalidField("key.tier", f"{asked.tier} is not a value of this field")
    if len(asked.accounts) > KEY_ACCOUNTS_MAX:
        raise InvalidField("key.accounts", f"at most {KEY_ACCOUNTS_MAX:,} accounts")
    accounts = [decode.account(name, field=f"key.accounts[{place}]") for place, name in enumerate(asked.accounts)]
    calls = asked.calls_per_minute if asked.HasField("calls_per_minute") else None
    fills = asked.fills_per_second if asked.HasField("fills_per_second") else FILLS_PER_SECOND
    streams = asked.streams_max if asked.HasField("streams_max") else STREAMS_MAX
    builds = asked.builds_max if asked.HasField("builds_max") else BUILDS_MAX
    return KeyTerms(
        owner=asked.owner,
        scopes=frozenset(SCOPES[scope] for scope in asked.scopes),
        accounts=frozenset(accounts) or None,
        tier=TIERS[asked.tier],
        calls_per_minute=None if calls is None else _rate(calls, "calls_per_minute", most=RATE_MAX),
        fills_per_second=_rate(fills, "fills_per_second", most=RATE_MAX),
        streams_max=_rate(streams, "streams_max", most=STREAMS_MAX_ASKED),
        builds_max=_rate(builds, "builds_max", most=BUILDS_MAX_ASKED),
        expires_at=decode.timestamp(asked.expires_at, field="key.expires_at") if asked.HasField("expires_at") else None,
    )


def _rate(value: int, field: str, *, most: int) -> int:
    if not 1 <= value <= most:
        raise InvalidField(f"key.{field}", f"must be 1 to {most:,}")
    return value


def encode_key(key: ApiKey) -> access_pb2.ApiKey:
    """A key without its secret."""
    terms = key.terms
    return access_pb2.ApiKey(
        key_id=key.key_id,
        owner=terms.owner,
        scopes=sorted(_SCOPE_NUMBERS[scope] for scope in terms.scopes),
        accounts=sorted(terms.accounts or ()),
        tier=_TIER_NUMBERS[terms.tier],
        calls_per_minute=terms.calls_allowed,
        fills_per_second=terms.fills_per_second,
        streams_max=terms.streams_max,
        builds_max=terms.builds_max,
        created_at=encode.timestamp(key.created_at),
        expires_at=encode.optional_timestamp(terms.expires_at),
        revoked_at=encode.optional_timestamp(key.revoked_at),
        last_used_at=encode.optional_timestamp(key.last_used_at),
    )
