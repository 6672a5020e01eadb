"""The commands that keep keys, against a service that asks for them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trustme
import typer
from typer.testing import CliRunner, Result

from steelyard.app.assembly import Service
from steelyard.cli import register
from steelyard.client import AccessDenied, Steelyard
from steelyard.operations.access import Scope
from tests.access.desk import guarded, new_key
from tests.access.test_certificates import write

COMMANDS = typer.Typer()
register(COMMANDS)
Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    async with guarded(database_url) as made:
        yield made


@pytest.fixture
async def run(service: Service, database_url: str) -> Run:
    """Runs `steelyard keys ...` with a key for everything, in a thread: the service lives in this loop."""
    root = await new_key(database_url, Scope.ADMIN, owner="root")
    variables = {"STEELYARD_SERVER": service.address, "STEELYARD_API_KEY": root.secret or ""}

    async def run_one(*arguments: str, status: int = 0) -> Result:
        result = await asyncio.to_thread(CliRunner(env=variables).invoke, COMMANDS, ["keys", *arguments])
        assert result.exit_code == status, result.output
        return result

    return run_one


async def answers(service: Service, secret: str) -> bool:
    async with Steelyard.connect(service.address, api_key=secret) as steelyard:
        try:
            return [position async for position in steelyard.list_positions()] == []
        except AccessDenied:
            return False


async def test_a_key_is_made_listed_and_taken_back(service: Service, run: Run) -> None:
    made = await run(
        "create", "--owner", "screen", "--scope", "positions.read", "--tier", "ui", "--until", "2099-12-31"
    )
    secret = made.stdout.strip()
    assert "shown once" in made.stderr
    assert await answers(service, secret)
    key_id = secret.split("_")[1]
    listed = (await run("list", "--owner", "screen")).stdout
    assert all(word in listed for word in (key_id, "positions.read", "1,000", "until 2099-12-31 00:00"))
    assert secret not in listed
    assert "revoked" in (await run("revoke", key_id)).stdout
    assert key_id not in (await run("list", "--live")).stdout


async def test_a_key_is_rotated_on_the_same_terms_and_both_work_until_the_old_one_goes(
    service: Service, run: Run
) -> None:
    terms = ("--owner", "feed", "--scope", "fills.write", "--scope", "positions.read", "--account", "desk")
    figures = ("--calls-per-minute", "70", "--fills-per-second", "9")
    old = json.loads((await run("create", *terms, *figures, "--json")).stdout)
    rotated = await run("rotate", old["key"]["key_id"], "--json")
    new = json.loads(rotated.stdout)
    told_apart = ("key_id", "created_at", "last_used_at")
    assert {n: v for n, v in new["key"].items() if n not in told_apart} == {
        n: v for n, v in old["key"].items() if n not in told_apart
    }
    assert (new["key"]["calls_per_minute"], new["key"]["fills_per_second"]) == (70, 9)
    assert f"steelyard keys revoke {old['key']['key_id']}" in rotated.stderr
    assert await answers(service, old["secret"])
    assert await answers(service, new["secret"])
    third = await run("rotate", new["key"]["key_id"], status=1)
    assert "KEYS_EXHAUSTED" in third.stderr


async def test_a_key_that_ends_is_rotated_with_an_end(run: Run) -> None:
    made = await run("create", "--owner", "model", "--scope", "positions.read", "--until", "2098-01-01", "--json")
    key_id = json.loads(made.stdout)["key"]["key_id"]
    refused = await run("rotate", key_id, status=1)
    assert refused.stderr == f"steelyard: {key_id} ends at 2098-01-01 00:00: say with --until when the new key does\n"
    new = json.loads((await run("rotate", key_id, "--until", "2099-01-01", "--json")).stdout)
    assert new["key"]["expires_at"] == "2099-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("create", "--owner", "a", "--scope", "positions.reed"),
            "--scope positions.reed: is none of positions.read, ",
        ),
        (("create", "--owner", "a", "--scope", "admin", "--tier", "gold"), "--tier gold: is none of default, model"),
        (("create", "--owner", "", "--scope", "admin"), "key.owner: is required"),
        (
            ("create", "--owner", "a", "--scope", "admin", "--calls-per-minute", "0"),
            "key.calls_per_minute: must be 1 to",
        ),
        (("revoke", "nothere1"), "NOT_FOUND: "),
        (("rotate", "nothere1"), "there is no live key nothere1"),
    ],
)
async def test_what_cannot_be_is_named_on_one_line(run: Run, arguments: tuple[str, ...], said: str) -> None:
    refused = await run(*arguments, status=1)
    assert refused.stderr.startswith(f"steelyard: {said}")
    assert refused.stderr.count("\n") == 1


async def test_a_command_that_meets_tls_says_what_it_needs(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    async with guarded(database_url, **write(authority, tmp_path)) as service:
        root = await new_key(database_url, Scope.ADMIN)
        monkeypatch.setenv("STEELYARD_API_KEY", root.secret or "")
        asked = ["positions", "--server", service.address]
        refused = await asyncio.to_thread(CliRunner().invoke, COMMANDS, asked)
        assert (refused.exit_code, refused.stderr.startswith(f"steelyard: {service.address} hung up")) == (1, True)
        authority.cert_pem.write_to_path(tmp_path / "authorities.pem")
        monkeypatch.setenv("STEELYARD_TLS_CA", str(tmp_path / "authorities.pem"))
        told = await asyncio.to_thread(CliRunner().invoke, COMMANDS, asked)
        assert (told.exit_code, told.stdout) == (0, "no positions\n")
