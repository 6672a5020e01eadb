"""Commands that keep the keys of the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from steelyard.cli.session import SERVER_DEFAULT, JsonOption, ServerOption, aside, ask, fail, tell
from steelyard.client import ApiKey, KeyTerms, NewKey, Scope, Steelyard, Tier

keys = typer.Typer(name="keys", help="Keys of the API: who may call, for what, how often.", no_args_is_help=True)

OwnerOption = Annotated[str, typer.Option("--owner", help="Who or what uses it.")]
ScopesOption = Annotated[
    list[str], typer.Option("--scope", help="What for, such as positions.read; may be given again.")
]
AccountsOption = Annotated[list[str] | None, typer.Option("--account", help="Bound to this account; again for more.")]
TierOption = Annotated[str, typer.Option("--tier", help="default, model, risk or ui.")]
UntilOption = Annotated[
    datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="Refused from the start of this day, UTC.")
]


@keys.command("create")
def create(
    owner: OwnerOption,
    scope: ScopesOption,
    account: AccountsOption = None,
    tier: TierOption = "default",
    calls_per_minute: Annotated[int | None, typer.Option(help="In place of the tier's.", show_default=False)] = None,
    fills_per_second: Annotated[int | None, typer.Option(help="It may record.", show_default="20,000")] = None,
    until: UntilOption = None,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its secret is printed once; it is kept nowhere."""
    terms = KeyTerms(
        owner=owner,
        accounts=tuple(account or ()),
        tier=_tier(tier),
        calls_per_minute=calls_per_minute,
        fills_per_second=fills_per_second,
        expires_at=_utc(until),
    )
    scopes = tuple(_scope(text) for text in scope)

    async def question(steelyard: Steelyard) -> NewKey:
        return await steelyard.create_api_key(terms, scopes=scopes)

    _tell_once(ask(server, question), as_json=as_json)


@keys.command("rotate")
def rotate(
    key_id: Annotated[str, typer.Argument(help="The public part of the key that is to be replaced.")],
    until: UntilOption = None,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Make a second key on the terms of another, which goes on working until it is revoked.

    Where the old key has an end, --until says that of the new one.
    """

    async def question(steelyard: Steelyard) -> NewKey:
        old = await _find(steelyard, key_id)
        if old.expires_at is not None and until is None:
            fail(f"{key_id} ends at {old.expires_at:%Y-%m-%d %H:%M}: say with --until when the new key does")
        terms = KeyTerms(
            owner=old.owner,
            accounts=old.accounts,
            tier=old.tier,
            calls_per_minute=old.calls_per_minute,
            fills_per_second=old.fills_per_second,
            streams_max=old.streams_max,
            builds_max=old.builds_max,
            expires_at=_utc(until),
        )
        return await steelyard.create_api_key(terms, scopes=old.scopes)

    _tell_once(ask(server, question), as_json=as_json)
    aside.print(f"Once the new key is in use everywhere: steelyard keys revoke {key_id}")


async def _find(steelyard: Steelyard, key_id: str) -> ApiKey:
    found = [key async for key in steelyard.list_api_keys(live_only=True) if key.key_id == key_id]
    if not found:
        fail(f"there is no live key {key_id}")
    return found[0]


def _tell_once(made: NewKey, *, as_json: bool) -> None:
    if not as_json:
        aside.print("The secret of this key is shown once:")
    tell(made, as_json=as_json, table=lambda: made.secret)


def _utc(day: datetime | None) -> datetime | None:
    return None if day is None else day.replace(tzinfo=UTC)


@keys.command("list")
def list_keys(
    owner: Annotated[str, typer.Option("--owner", help="Only those of this owner.")] = "",
    live: Annotated[bool, typer.Option("--live", help="Only those that were not taken back.")] = False,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """The keys there are, without their secrets."""

    async def question(steelyard: Steelyard) -> list[ApiKey]:
        return [key async for key in steelyard.list_api_keys(owner=owner, live_only=live)]

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: keys_table(found))


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="Its public part.")],
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Take a key back. Every server refuses it within 30 seconds."""

    async def question(steelyard: Steelyard) -> ApiKey:
        return await steelyard.revoke_api_key(key_id)

    taken = ask(server, question)
    tell(taken, as_json=as_json, table=lambda: keys_table([taken]))


def keys_table(found: list[ApiKey]) -> Table:
    """Keys as people read them."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("Key", "Owner", "For", "Accounts", "Calls a minute", "Last used", "State"):
        table.add_column(column, justify="right" if column == "Calls a minute" else "left")
    for key in found:
        table.add_row(
            key.key_id,
            key.owner,
            " ".join(scope.lower().replace("_", ".") for scope in key.scopes),
            " ".join(key.accounts) or "all",
            f"{key.calls_per_minute:,}",
            "never" if key.last_used_at is None else f"{key.last_used_at:%Y-%m-%d %H:%M}",
            _state(key),
        )
    return table


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    if key.expires_at is not None:
        return f"until {key.expires_at:%Y-%m-%d %H:%M}"
    return "live"


def _scope(text: str) -> Scope:
    word = text.upper().replace(".", "_")
    if word not in Scope.__members__:
        fail(f"--scope {text}: is none of {', '.join(scope.lower().replace('_', '.') for scope in Scope)}")
    return Scope(word)


def _tier(text: str) -> Tier:
    if text.upper() not in Tier.__members__:
        fail(f"--tier {text}: is none of {', '.join(tier.lower() for tier in Tier)}")
    return Tier(text.upper())
