"""Price sources by the name a setting gives them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from steelyard.operations.refresh_marks import NoPriceSource, PriceSource


@dataclass(frozen=True, slots=True)
class PriceSourceSettings:
    """Which source is asked, and how."""

    name: str = "none"
    """none or bybit."""
    url: str = ""
    """Where it is; empty: where it is by default."""
    instruments: str = ""
    """A regular expression of the instruments it is asked for; empty: those it is known to list."""
    timeout_s: float = 5.0


class OpenPriceSource(PriceSource, Protocol):
    """A source with connections to give up."""

    async def close(self) -> None:
        """Gives up connections."""
        ...


class _Nobody(NoPriceSource):
    async def close(self) -> None:
        """Nothing to give up."""


def _bybit(settings: PriceSourceSettings) -> OpenPriceSource:
    # Imported here: most processes ask nobody for prices, and what asks takes long to load.
    from steelyard.prices.bybit import LINEAR_SYMBOLS, BybitTickers
    from steelyard.prices.bybit_calls import BYBIT_URL

    symbols = re.compile(settings.instruments) if settings.instruments else LINEAR_SYMBOLS
    return BybitTickers(settings.url or BYBIT_URL, symbols=symbols, timeout_s=settings.timeout_s)


SOURCES: Mapping[str, Callable[[PriceSourceSettings], OpenPriceSource]] = {
    "none": lambda _: _Nobody(),
    "bybit": _bybit,
}
"""Another source is another line here and a module beside `bybit`."""


def price_source(settings: PriceSourceSettings) -> OpenPriceSource:
    """The source that settings name; connects when first asked. Raises `ValueError` for an unknown name."""
    make = SOURCES.get(settings.name)
    if make is None:
        raise ValueError(f"price source must be one of {', '.join(SOURCES)}, not {settings.name!r}")
    return make(settings)
