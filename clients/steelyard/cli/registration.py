"""Puts the commands of this room into the command line."""

from __future__ import annotations

import typer

from steelyard.cli.builds import build
from steelyard.cli.history import as_of, snapshot, snapshots
from steelyard.cli.importing import import_files
from steelyard.cli.keys import keys
from steelyard.cli.performance import perf
from steelyard.cli.questions import accounts, instruments, portfolio, positions, trips
from steelyard.cli.reconciliation import discrepancies, reconcile
from steelyard.cli.risk import check_order, limits
from steelyard.cli.status import status


def register(app: typer.Typer) -> None:
    """Adds every command that talks to a running service."""
    for command in (
        positions,
        trips,
        portfolio,
        perf,
        limits,
        accounts,
        instruments,
        snapshot,
        snapshots,
        reconcile,
        discrepancies,
        status,
    ):
        app.command()(command)
    app.command(name="as-of")(as_of)
    app.command(name="check-order")(check_order)
    app.command(name="import")(import_files)
    app.add_typer(build)
    app.add_typer(keys)
