"""Keys of the API: who calls, what he may do, on which accounts, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from steelyard.accounting.keys import Account

FILLS_PER_SECOND = 20_000
STREAMS_MAX = 20
BUILDS_MAX = 4
LIVE_KEYS_OF_OWNER = 2
"""Two, so that a new key can be handed out before the old one is taken back."""


class Scope(StrEnum):
    """What a key may be used for."""

    POSITIONS_READ = "positions.read"
    POSITIONS_WRITE = "positions.write"
    FILLS_WRITE = "fills.write"
    FILLS_IMPORT = "fills.import"
    BUILDS_RUN = "builds.run"
    PERFORMANCE_READ = "performance.read"
    LIMITS_WRITE = "limits.write"
    MARKET_WRITE = "market.write"
    ADMIN = "admin"
    """Stands for every other one."""


class Tier(StrEnum):
    """How many calls a minute a key may make, unless it has a figure of its own."""

    DEFAULT = "default"
    MODEL = "model"
    RISK = "risk"
    UI = "ui"


CALLS_PER_MINUTE: Mapping[Tier, int] = {Tier.DEFAULT: 100, Tier.MODEL: 100, Tier.RISK: 200, Tier.UI: 1_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a key is to be good for."""

    owner: str
    scopes: frozenset[Scope]
    accounts: frozenset[Account] | None = None
    """None: all, also those that come to be later."""
    tier: Tier = Tier.DEFAULT
    calls_per_minute: int | None = None
    """In place of the tier's."""
    fills_per_second: int = FILLS_PER_SECOND
    streams_max: int = STREAMS_MAX
    builds_max: int = BUILDS_MAX
    expires_at: datetime | None = None

    @property
    def calls_allowed(self) -> int:
        """Calls a minute."""
        return CALLS_PER_MINUTE[self.tier] if self.calls_per_minute is None else self.calls_per_minute

    def allows(self, scope: Scope) -> bool:
        """Whether the key is good for what needs this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept: its terms and its life, never its secret."""

    key_id: str
    terms: KeyTerms
    created_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        """Whether it is neither taken back nor expired."""
        return self.revoked_at is None and (self.terms.expires_at is None or now < self.terms.expires_at)
