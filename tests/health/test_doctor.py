"""The doctor: each kind of trouble is found by looking at the real thing, with what to do about it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from steelyard.app.assembly import system_clock
from steelyard.app.doctor import Check, Finding, Patient, Verdict, doctor, examine, lines, worst
from steelyard.app.doctor_checks import CHECKS, judged, room
from steelyard.app.settings import Settings, read_settings
from steelyard.embedded import EmbeddedPostgres
from steelyard.migrations import head_revision, upgrade
from steelyard.operations.access import Scope
from steelyard.storage.inspection import inspect_database
from tests.access.desk import PEPPER, new_key
from tests.app.processes import run
from tests.client.desk import serving_book
from tests.health.test_status import execute
from tests.support.redis import RedisServer

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL
Clock = Callable[[], datetime]


async def found(clock: Clock = system_clock, **settings: Any) -> Mapping[str, Finding]:
    """What the doctor finds, by the name of the check."""
    known = {"port": 0, **settings}
    return {each.check: each for each in await examine(Patient(Settings(**known), clock), CHECKS)}


def verdicts(findings: Mapping[str, Finding], *names: str) -> Sequence[Verdict]:
    return [findings[name].verdict for name in names]


def secret(url: str) -> SecretStr:
    return SecretStr(url)


async def test_a_sound_database_is_all_right(tmp_path: Path) -> None:
    with EmbeddedPostgres.start_blocking(tmp_path / "postgres", durable=True) as postgres:
        upgrade(postgres.url)
        findings = await found(database_url=secret(postgres.url))
    assert {each.verdict for each in findings.values()} == {OK}
    assert {"schema", "durability", "sessions", "connections", "clocks", "guard", "port"} < set(findings)


async def test_a_database_that_is_down_or_refuses_us_fails_and_keeps_its_password(empty_database_url: str) -> None:
    down = await found(database_url=secret("postgresql://nobody:sekret-word@127.0.0.1:1/nothing"))
    assert down["database"].verdict is FAIL
    assert "start PostgreSQL" in down["database"].what_to_do
    none = await found(database_url=secret(empty_database_url + "_no"))
    wrong = await found(database_url=secret(empty_database_url.replace("steelyard:", "steelyard:sekret-word", 1)))
    for findings in (down, none, wrong):
        assert findings["database"].verdict is FAIL
        assert "sekret-word" not in str(findings)
    assert "does not exist" in none["database"].told
    assert "authentication" in wrong["database"].told


async def test_a_schema_that_is_missing_or_old_fails_and_a_newer_one_is_warned_of(empty_database_url: str) -> None:
    url = secret(empty_database_url)
    assert (await found(database_url=url))["schema"] == Finding(
        "schema", FAIL, f"revision none, this release needs {head_revision()}", "run `steelyard migrate`"
    )
    upgrade(empty_database_url, "0004")
    old = await found(database_url=url, key_pepper=secret(PEPPER))
    assert old["schema"].told.startswith("revision 0004")
    assert verdicts(old, "schema", "keys") == [FAIL, WARN]
    await execute(empty_database_url, "UPDATE alembic_version SET version_num = '9999'")
    assert (await found(database_url=url))["schema"].verdict is WARN


async def test_a_database_that_may_lose_what_it_acknowledged_fails(database_url: str) -> None:
    findings = await found(database_url=secret(database_url))
    assert findings["durability"].verdict is FAIL
    assert "fsync" in findings["durability"].told


async def test_a_clock_that_differs_is_warned_of_and_fails_when_it_is_far_off(database_url: str) -> None:
    url = secret(database_url)
    for off, wanted in ((0, OK), (5, WARN), (-5, WARN), (60, FAIL)):

        def clock(off: int = off) -> datetime:
            return system_clock() + timedelta(seconds=off)

        assert (await found(clock, database_url=url))["clocks"].verdict is wanted, off


async def test_what_the_test_database_cannot_be_is_judged_by_its_facts(database_url: str) -> None:
    facts = await inspect_database(database_url, clock=system_clock)
    settings = Settings(port=0)
    for changed, check, wanted in (
        (replace(facts, version=140_011), "database", FAIL),
        (replace(facts, answered_in_s=1.0), "database", WARN),
        (replace(facts, is_session_shared=True), "sessions", FAIL),
        (replace(facts, settings={**facts.settings, "max_connections": "10"}), "connections", WARN),
        (replace(facts, settings=dict.fromkeys(facts.settings, "100")), "durability", OK),
    ):
        assert {each.check: each.verdict for each in judged(changed, settings)}[check] is wanted, check


async def test_keys_that_are_needed_and_not_there_are_warned_of(database_url: str) -> None:
    guarded: dict[str, Any] = {"database_url": secret(database_url), "key_pepper": secret(PEPPER)}
    assert (await found(**guarded))["keys"].verdict is WARN
    await new_key(database_url, Scope.ADMIN)
    findings = await found(**guarded)
    assert verdicts(findings, "keys", "guard") == [OK, OK]


async def test_a_port_of_the_network_without_keys_is_warned_of() -> None:
    findings = await found(host="0.0.0.0", api_keys="off")
    assert verdicts(findings, "guard", "configuration") == [WARN, WARN]


async def test_redis_is_asked_where_it_is_named(redis_server: RedisServer) -> None:
    assert (await found())["redis"].verdict is OK
    assert (await found(redis_url=secret(redis_server.url)))["redis"] == Finding("redis", OK, "answers")
    for url in ("redis://:sekret-word@127.0.0.1:1/0", "ftp://x"):
        findings = await found(redis_url=secret(url))
        assert findings["redis"].verdict is FAIL
        assert "sekret-word" not in str(findings)


async def test_a_broker_that_is_named_and_away_fails() -> None:
    findings = await found(amqp_url=secret("amqp://guest:sekret-word@127.0.0.1:1/"))
    assert findings["broker"].verdict is FAIL
    assert findings["broker"].told.startswith("127.0.0.1:1: ")
    assert "sekret-word" not in str(findings)


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Writes a certificate of the port that ends after so many days, and a key."""
    authority = trustme.CA()

    def write(days: float, *, of_another: bool = False) -> dict[str, Any]:
        leaf = authority.issue_cert("localhost", not_after=system_clock() + timedelta(days=days))
        other = authority.issue_cert("localhost")
        certificate, key, roots = tmp_path / "port.pem", tmp_path / "port.key", tmp_path / "roots.pem"
        certificate.write_bytes(leaf.cert_chain_pems[0].bytes())
        key.write_bytes((other if of_another else leaf).private_key_pem.bytes())
        roots.write_bytes(authority.cert_pem.bytes())
        return {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": roots}

    return write


async def test_certificates_that_end_or_do_not_fit_are_found(files: Callable[..., dict[str, Any]]) -> None:
    async def verdict(named: Mapping[str, Any]) -> Verdict:
        found_here = await examine(Patient(Settings(port=0, **named), system_clock), CHECKS)
        return worst([each for each in found_here if each.check == "certificates"])

    assert await verdict(files(90)) is OK
    assert await verdict(files(10)) is WARN
    assert await verdict(files(-1)) is FAIL
    assert await verdict(files(90, of_another=True)) is FAIL
    named = files(90)
    named["tls_client_ca"].write_text("no certificate")
    assert await verdict(named) is FAIL
    named["tls_certificate"].unlink()
    assert await verdict(named) is FAIL


async def test_a_port_that_another_program_has_fails_and_one_that_serves_does_not(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        findings = await found(port=taken.getsockname()[1])
        assert findings["port"].verdict is FAIL
        assert "STEELYARD_PORT" in findings["port"].what_to_do
    async with serving_book(database_url) as service:
        assert (await found(port=service.server.port))["port"].told.endswith("a service serves there")


async def test_the_embedded_database_needs_its_programs_and_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = await found(data_directory=tmp_path / "not" / "there" / "yet")
    assert verdicts(findings, "database", "disk") == [OK, OK]
    assert [room(tmp_path, free=free).verdict for free in (10 << 30, 1 << 30, 1 << 20)] == [OK, WARN, FAIL]
    monkeypatch.setenv("STEELYARD_PG_BIN", str(tmp_path))
    assert (await found())["database"].verdict is FAIL


async def test_an_embedded_database_that_somebody_runs_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    with EmbeddedPostgres.start_blocking(folder, durable=True) as postgres:
        findings = await found(data_directory=folder, key_pepper=secret(PEPPER))
        assert verdicts(findings, "database", "schema", "clocks", "keys") == [OK, FAIL, OK, WARN]
        upgrade(postgres.url)
        assert (await found(data_directory=folder))["schema"].verdict is OK
        monkeypatch.setattr(Path, "read_text", lambda path, **_: refuse(path))
        other_users = await found(data_directory=folder)
        assert (other_users["database"].verdict, "schema" in other_users) == (WARN, False)
    monkeypatch.undo()
    assert "schema" not in await found(data_directory=folder)


def refuse(path: Path) -> str:
    """What reading another user's files comes to."""
    raise PermissionError(13, "Permission denied", str(path))


async def test_wrong_settings_are_the_only_finding() -> None:
    said: list[str] = []
    is_well = await doctor(
        lambda: read_settings({"STEELYARD_PORT": "many", "STEELYARD_REDIS": "x"}),
        checks=CHECKS,
        clock=system_clock,
        as_json=False,
        say=said.append,
    )
    assert not is_well
    (line,) = said
    assert line.startswith("FAIL configuration")
    assert "STEELYARD_PORT" in line
    assert "STEELYARD_REDIS is no setting" in line


async def test_a_check_that_goes_wrong_itself_is_a_finding() -> None:
    async def broken(_patient: Patient) -> Sequence[Finding]:
        raise ZeroDivisionError("sekret-word")

    checks: Sequence[Check] = (broken,)
    (finding,) = await examine(Patient(Settings(port=0), system_clock), checks)
    assert (finding.check, finding.verdict) == ("broken", FAIL)
    assert "sekret-word" not in str(finding)


def test_each_finding_is_one_line() -> None:
    several = [Finding("a", OK, "well"), Finding("longer", FAIL, "bad\nnews", "mend it")]
    assert lines(several, has_colour=False) == ["OK   a       well", "FAIL longer  bad news -> mend it"]
    assert worst(several) is FAIL
    assert worst([]) is OK


def test_the_command_exits_by_the_worst_it_finds(empty_database_url: str) -> None:
    failed = run("doctor", "--json", STEELYARD_DATABASE_URL=empty_database_url, STEELYARD_PORT="0")
    told = json.loads(failed.stdout)
    assert (failed.returncode, told["worst"], failed.stderr) == (1, "FAIL", "")
    assert {"check": "schema", "verdict": "FAIL"}.items() <= {
        name: value for each in told["findings"] if each["check"] == "schema" for name, value in each.items()
    }.items()
