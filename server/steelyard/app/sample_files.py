"""Sample files in every format that can be imported, by the format's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from steelyard.app.samples import generate_day, generic_csv
from steelyard.app.venue_samples import binance_history, bybit_history

SAMPLES: dict[str, Callable[..., Iterator[str]]] = {
    "ninjatrader": generate_day,
    "generic_csv": generic_csv,
    "bybit": bybit_history,
    "binance": binance_history,
}
"""Each takes a seed and a number of fills, and gives lines that end in a line feed."""
