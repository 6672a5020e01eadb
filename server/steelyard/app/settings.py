"""What can be set from outside: environment variables `STEELYARD_*`, checked as a whole before anything starts.

Every wrong value and every name nobody knows is told at once, in one message; a misspelt setting never passes for its
default.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]  # it has no stubs
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import account
from steelyard.accounting.venue_report import SIZE_TOLERANCE, TIME_TOLERANCE
from steelyard.app.failures import MISUSED, CommandFailed
from steelyard.operations.feed_ports import DEFAULT_ACCOUNT, DEFAULT_SYMBOLS

PREFIX = "STEELYARD_"
READ_ELSEWHERE = frozenset(
    {"STEELYARD_PG_BIN", "STEELYARD_ROOT", "STEELYARD_SERVER", "STEELYARD_API_KEY", "STEELYARD_TLS_CA"}
)
"""Names of the same family that are no settings of the service: the programs of the embedded database, the checkout,
and where the commands find the service and how they are let in."""
PAGE_TOKEN_KEY_MIN = 16
CRON_FIELDS = 5
AMQP_SCHEMES = ("amqp", "amqps")


class SettingsWrong(CommandFailed):
    """The settings cannot be used; the text names every wrong one."""

    status = MISUSED


def _database_url(secret: SecretStr) -> SecretStr:
    parts = urlsplit(secret.get_secret_value())
    if parts.scheme.partition("+")[0] not in ("postgres", "postgresql") or not parts.path.strip("/"):
        raise ValueError("must look like postgresql://user:password@host:5432/database")
    return secret


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("is no IANA time zone") from None
    return name


def _schedule(line: str) -> str:
    if line != "off" and (len(line.split()) != CRON_FIELDS or not croniter.is_valid(line)):
        raise ValueError("must be a cron line of five fields (0 * * * *), or off")
    return line


def _key(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < PAGE_TOKEN_KEY_MIN:
        raise ValueError(f"must be at least {PAGE_TOKEN_KEY_MIN} bytes")
    return secret


def _amqp_url(secret: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(secret.get_secret_value())
        is_usable = parts.scheme in AMQP_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ValueError("must look like amqp://user:password@host:5672/vhost")
    return secret


def _account(name: str) -> str:
    try:
        return account(name)
    except InvalidField as error:
        raise ValueError(error.why) from None


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error:
        raise ValueError("is no regular expression") from None
    return text


Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Switch = Literal["on", "off"]


class Settings(BaseSettings):
    """Everything that can be set; each name is also that of its variable, in capitals behind `STEELYARD_`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    mode: Literal["development", "production"] = "development"
    """production: no embedded database, no reflection unless asked for, and tokens that outlive the process."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = None
    """PostgreSQL 15 or newer; none: an embedded one in `data_directory`."""
    data_directory: Path = Path("~/.steelyard")
    """Where the embedded database is kept."""
    pool_size: Count = 10
    statement_timeout_s: Seconds = 30.0

    host: str = "127.0.0.1"
    port: Port = 4800
    """0: a free one."""
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """How many serve on the port, each on a core of its own; each has its own `pool_size` connections."""
    shares_port: bool = False
    """Whether another service may listen on the port too, so that a new one can take over while the old one drains."""
    reflection: bool | None = None
    """Whether clients may ask which services there are; unless said, in development only."""
    concurrent_rpcs: Count = 1_000
    unary_deadline_s: Seconds = 30.0
    import_deadline_s: Seconds = 600.0
    drain_wait_s: Annotated[float, Field(ge=0, le=60)] = 0.5
    drain_grace_s: Seconds = 10.0
    page_token_key: Annotated[SecretStr, AfterValidator(_key)] | None = None
    """One for all replicas; none: one kept with the embedded database, on another a random one for each start."""

    key_pepper: Annotated[SecretStr, AfterValidator(_key)] | None = None
    """What the digests of API keys are made with, one for all replicas; none: no keys are kept."""
    api_keys: Literal["required", "off"] | None = None
    """Whether calls need a key; unless said, where a pepper is set."""
    tls_certificate: Path | None = None
    """PEM file of the port's certificate chain, read anew when it changes; none: no TLS."""
    tls_key: Path | None = None
    """PEM file of its private key."""
    tls_client_ca: Path | None = None
    """PEM file of the authorities whose clients are let in (mTLS); none: clients need no certificate."""

    import_file_mib: Count = 1_024
    import_rows: Count = 5_000_000
    imports_at_once: Count = 4
    small_import_rows: Count = 1_000
    """Imports that record no more than this are built at immediate priority."""
    build_timeout_s: Annotated[int, Field(ge=1, le=7 * 86_400)] = 3_600
    worker_bulk_jobs: Count = 1
    """Chunks of bulk builds that one worker folds at a time; immediate ones have a place of their own."""
    worker_silence_max_s: Seconds = 30.0
    """A worker that has not beaten for this long is none; where there is none, BuildService is NOT_SERVING."""

    redis_url: SecretStr | None = None
    """redis://[:password@]host:port/db: answers about portfolios and performance are kept there; none: no cache."""
    cache_key: Annotated[SecretStr, AfterValidator(_key)] | None = None
    """With it, only what this service wrote is believed of Redis."""
    portfolio_cache_s: Seconds = 1.0
    """How long a cached portfolio may be told, at the most: a newer price shows after this, a commit at once."""

    price_source: Literal["none", "bybit"] = "none"
    """Who is asked for prices that a read finds stale."""
    price_source_url: str = ""
    """Where it is; empty: its own address."""
    price_source_instruments: str = ""
    """A regular expression of the instruments it is asked for; empty: those it is known to list."""
    price_staleness_max_s: Count = 300
    account_time_zone: Annotated[str, AfterValidator(_zone)] = "America/Chicago"
    """The zone of accounts that do not exist before their first fill."""

    snapshot_schedule: Annotated[str, AfterValidator(_schedule)] = "0 * * * *"
    """When workers take snapshots of all positions that are open or have changed: a cron line in UTC, or `off`."""
    snapshots_kept_days: Annotated[int, Field(ge=1, le=36_500)] = 365
    """How long snapshots are kept."""

    reconcile_schedule: Annotated[str, AfterValidator(_schedule)] = "*/30 * * * *"
    """When workers hold every position against its entries, its venue and its orders: a cron line in UTC, or `off`."""
    reconcile_fixes: Switch = "on"
    """Whether such runs fold anew what differs from its own entries."""
    reconcile_fixes_venue: Switch = "on"
    """Whether they also set what differs from the venue, where the account's size authority is LATEST or VENUE."""
    reconcile_sample: Annotated[int, Field(ge=0, le=1_000)] = 5
    """Instruments that a worker looks at each minute between such runs; 0: none."""
    reconcile_stalled_s: Count = 60
    """How long a build, or entries that wait for one, may stand still before that is a discrepancy."""
    venue: Literal["none", "bybit"] = "none"
    """Who is asked for the positions of an account."""
    venue_account: str = "main"
    """Which account that is."""
    venue_api_key: SecretStr | None = None
    venue_api_secret: SecretStr | None = None
    """A key that may read positions."""
    venue_url: str = ""
    """Where it is; empty: its own address."""
    venue_settle_coins: str = "USDT"
    """Coins, separated by commas, whose linear perpetuals are asked for."""
    venue_validates_sizes: Switch = "off"
    """Whether a report that contradicts a size has its position looked at by a run of its own."""

    amqp_url: Annotated[SecretStr, AfterValidator(_amqp_url)] | None = None
    """amqp://user:password@host:port/vhost: feeds are followed there and commits told to others; none: neither."""
    events_publish: bool | None = None
    """Whether commits are put into the outbox; unless said, where a broker is named. The same for all processes on a
    database: what one of them does not put there is never told."""
    events_account: Annotated[str, AfterValidator(_account)] = DEFAULT_ACCOUNT
    """Whose events these are: they name no account themselves."""
    events_symbols: Annotated[str, AfterValidator(_pattern)] = DEFAULT_SYMBOLS
    """Symbols of events and of venues' exports that register themselves as linear; others must be known."""
    events_time_zone: Annotated[str, AfterValidator(_zone)] | None = None
    """The zone of the account that events make on first use; none: `account_time_zone`."""
    events_time_tolerance_s: Annotated[float, Field(ge=0, le=3_600)] = TIME_TOLERANCE.total_seconds()
    """How long after a fill a venue's report may still not know of it."""
    events_size_tolerance: Annotated[Decimal, Field(ge=0, le=1_000_000)] = SIZE_TOLERANCE
    """Sizes of venue and book that differ by more than this are a discrepancy."""
    inbox_kept_days: Annotated[int, Field(ge=1, le=3_650)] = 14
    """How long a repeat of a message is known by its id alone; later it is known by what it did."""

    metrics_port: Port | None = None
    """Where `serve` tells its metrics to Prometheus (`/metrics`); 0: a free port; none: nowhere. Of several processes
    each takes the next port that is free."""
    worker_metrics_port: Port | None = None
    """The same of `work`."""
    metrics_host: str = "127.0.0.1"
    otlp_endpoint: str | None = None
    """http://host:4317 of an OpenTelemetry collector (gRPC): gets traces and metrics; none: no traces are made."""
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The part of calls that is traced, of those whose callers have not decided it."""
    position_log: Switch = "on"
    """Whether each new version of a position is a line of the log (at level info)."""
    slow_query_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 500
    """Statements that take as long are logged, without their arguments."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `read_settings` hands over: it has read the environment, and looked at every name in it."""
        return (init_settings,)

    @model_validator(mode="after")
    def _production_is_complete(self) -> Self:
        if self.mode == "production":
            missing = [name for name in ("database_url", "page_token_key") if getattr(self, name) is None]
            if missing:
                raise ValueError("production needs " + " and ".join(PREFIX + name.upper() for name in missing))
        return self

    @model_validator(mode="after")
    def _venue_can_be_asked(self) -> Self:
        if self.venue != "none" and (self.venue_api_key is None or self.venue_api_secret is None):
            raise ValueError(f"{PREFIX}VENUE needs {PREFIX}VENUE_API_KEY and {PREFIX}VENUE_API_SECRET")
        return self

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if self.api_keys == "required" and self.key_pepper is None:
            raise ValueError("calls that need a key need STEELYARD_KEY_PEPPER")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("STEELYARD_TLS_CERTIFICATE and STEELYARD_TLS_KEY go together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("STEELYARD_TLS_CLIENT_CA needs STEELYARD_TLS_CERTIFICATE")
        if not self.needs_keys and self.api_keys != "off" and not self.is_on_loopback:
            raise ValueError(
                f"STEELYARD_HOST {self.host} can be reached from the network: set STEELYARD_KEY_PEPPER,"
                " or STEELYARD_API_KEYS=off where something else guards the port"
            )
        return self

    @property
    def needs_keys(self) -> bool:
        """Whether calls need an API key."""
        return self.key_pepper is not None if self.api_keys is None else self.api_keys == "required"

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can get at the port."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def has_reflection(self) -> bool:
        """Whether the server tells which services there are."""
        return self.mode == "development" if self.reflection is None else self.reflection

    @property
    def is_publishing(self) -> bool:
        """Whether commits are put into the outbox."""
        return self.amqp_url is not None if self.events_publish is None else self.events_publish

    @property
    def stale_after(self) -> timedelta:
        """How old a mark may be before figures that rest on it are called stale."""
        return timedelta(seconds=self.price_staleness_max_s)

    @property
    def folder(self) -> Path:
        """`data_directory` with its home folder spelt out."""
        return self.data_directory.expanduser()


def read_settings(environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """The settings of this process: `given` (options of the command, None meaning not given) before the environment.

    Raises `SettingsWrong`, which names every wrong value and every unknown `STEELYARD_*` variable.
    """
    variables = os.environ if environment is None else environment
    named = {name.upper(): value for name, value in variables.items() if name.upper().startswith(PREFIX)}
    known = {PREFIX + field.upper(): field for field in Settings.model_fields}
    values: dict[str, Any] = {known[name]: value for name, value in named.items() if name in known and value != ""}
    values |= {field: value for field, value in given.items() if value is not None}
    problems = list(_unknown(named, known))
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems.extend(_wrong(error))
    else:
        if not problems:
            return settings
    raise SettingsWrong("settings: " + "; ".join(problems))


def _unknown(named: Mapping[str, str], known: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(set(named) - set(known) - READ_ELSEWHERE):
        near = difflib.get_close_matches(name, known, n=1)
        yield f"{name} is no setting" + (f" (did you mean {near[0]}?)" if near else "")


def _wrong(error: ValidationError) -> Iterator[str]:
    # Without the value itself: it may be a password.
    for problem in error.errors(include_input=False, include_url=False):
        told = str(problem["msg"]).removeprefix("Value error, ")
        if problem["loc"]:
            yield f"{PREFIX}{str(problem['loc'][0]).upper()} {told[:1].lower()}{told[1:]}"
        else:
            yield told
