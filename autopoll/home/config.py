"""The settings of a home, autopoll.toml and shards.d: typed, checked as a whole, and frozen."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

import msgspec

from autopoll.clock import Duration
from autopoll.errors import ConfigError, UsageError
from autopoll.home import bridge_settings, shard_files, toml_file
from autopoll.home.address import Address
from autopoll.home.bridge_settings import BridgeSection
from autopoll.home.byte_size import ByteSize
from autopoll.home.home import Home, instance_name
from autopoll.home.retention_settings import RetentionSection
from autopoll.home.shard_files import SHARD_NAME

OVERRIDE_PREFIX = "AUTOPOLL_"
STOP_WAIT_S = 30  # stopwaitsecs of every program in conf/supervisord.conf
LEAST_MEMORY = 64_000_000  # a worker with nothing in it has 31 MB
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9a-fA-F:.]+\]"
_ORIGIN = r"[a-z][a-z0-9+.-]*://[A-Za-z0-9.\[\]:-]{1,260}"
LEAST_AGE_S = 5  # what exits within startsecs counts for supervisord as a failed start


Refuse = Callable[[str, str, str], NoReturn]


class _Section(msgspec.Struct, frozen=True):
    """The root of every table."""


class DeliverySection(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a claim is held, how often a query is tried, how large a message may be."""

    visibility_timeout: Duration = Duration(60)
    max_attempts: int = 5
    max_message: int = 8 * 1024 * 1024
    drain_timeout: Duration = Duration(20)


class AccessSection(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Token lifetime, rate budget of one session, and whether secrets in messages are redacted."""

    token_lifetime: Duration = Duration(30 * 86400)
    rate_per_second: float = 100.0
    rate_burst: int = 2000
    redact: bool = True


class ShardSection(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named answering role: its backend, context, number of instances, and when to renew them."""

    backend: str
    context: list[str] = []
    instances: int = 1
    request_timeout: Duration = Duration(120)
    progress_timeout: Duration | None = None
    max_memory: ByteSize | None = None
    max_age: Duration | None = None
    max_requests: int | None = None
    daily_tokens: int | None = None
    daily_cost: float | None = None  # US dollars
    options: dict[str, Any] = {}


class GatewaySection(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether and where programs and agents are served over HTTP, and how much of each."""

    enabled: bool = False
    listen: str = "127.0.0.1:8765"
    allow_remote: bool = False
    allowed_hosts: list[str] = []
    allowed_origins: list[str] = []
    max_body: ByteSize = ByteSize(1_000_000)
    max_connections: int = 512
    max_wait: Duration = Duration(300)
    client_timeout: Duration = Duration(20)

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address.parse(self.listen)


class LoggingSection(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the home says on stdout what happens in it, when it runs in the foreground."""

    format: Literal["text", "json"] = "text"


class Config(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one home."""

    shards: dict[str, ShardSection]
    bridge: BridgeSection = BridgeSection()
    delivery: DeliverySection = DeliverySection()
    access: AccessSection = AccessSection()
    gateway: GatewaySection = GatewaySection()
    logging: LoggingSection = LoggingSection()
    retention: RetentionSection = RetentionSection()

    def instances(self) -> dict[str, str]:
        """Return worker name -> shard for every instance there should be."""
        return {
            instance_name(shard, number): shard
            for shard, section in self.shards.items()
            for number in range(1, section.instances + 1)
        }


def load(home: Home, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check the home's settings; raise ConfigError naming file, key and what is allowed.

    `AUTOPOLL_<SECTION>__<KEY>` in the environment overrides a key, as in
    AUTOPOLL_SHARDS__MAIN__INSTANCES=3; the value is read as TOML, or else as text.
    """
    text = toml_file.read_text(home.config)
    return parse(home, text, shard_files.read(home), environ)


def parse(
    home: Home,
    text: str,
    tables: Mapping[str, Mapping[str, Any]],
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Return the settings that autopoll.toml with this text and shard files with these tables would
    be; raise ConfigError as `load` does."""
    raw = toml_file.parse(home.config, text)
    bridge_settings.refuse_open_password(home.config, raw.get("bridge"))
    _join(home, raw, tables)
    noted = ""
    for name, value in sorted(environ.items()):
        if name.startswith(OVERRIDE_PREFIX) and "__" in name:
            _override(raw, name, value)
            noted = f" with {name}"
    origin = f"{home.config}{noted}"
    origins = {name: f"{shard_files.path_of(home, name)}{noted}" for name in tables}
    shards = raw.get("shards")
    # One by one first, because msgspec does not name the key of a mapping in its errors.
    for name, table in shards.items() if isinstance(shards, dict) else ():
        toml_file.convert(table, ShardSection, origins.get(name, origin), f"shards.{name}")
    config = toml_file.convert(raw, Config, origin)
    for name, shard in config.shards.items():
        _check_shard(f"shards.{name}", shard, _refuse_in(origins.get(name, origin)))
    _check(config, _refuse_in(origin))
    return config


def _join(home: Home, raw: dict[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the tables of shard files where they would stand in autopoll.toml."""
    shards: Any = raw.setdefault("shards", {}) if tables else None
    for name, table in tables.items() if isinstance(shards, dict) else ():
        if name in shards:
            raise ConfigError(
                f"shard {name} stands in {home.config} and in {shard_files.path_of(home, name)}",
                "Take it out of one of the two.",
            )
        shards[name] = table


def context_paths(home: Home, section: ShardSection) -> list[Path]:
    """Return a shard's context files and folders, absolute; raise ConfigError for what is none."""
    return [_context_path(home, entry) for entry in section.context]


def _context_path(home: Home, entry: str) -> Path:
    try:
        return (home.root / Path(entry).expanduser()).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # no such user, a NUL, a loop of links
        raise ConfigError(
            f"{home.config}, or a file in {home.shard_files}: the context path {entry[:200]!r} "
            f"cannot be used: {error}",
            "Name a file or a folder.",
        ) from error


def _refuse_in(origin: str) -> Refuse:
    def refuse(key: str, why: str, mend: str) -> NoReturn:
        raise ConfigError(f"{origin}: {key} {why}", mend)

    return refuse


def _check_shard(key: str, shard: ShardSection, refuse: Refuse) -> None:
    """Refuse values that have the right type and still cannot work."""
    if not SHARD_NAME.fullmatch(key.removeprefix("shards.")):
        refuse(key, "is no shard name", "Use a-z, 0-9, - and _, 32 at most.")
    if not 1 <= shard.instances <= 64:
        refuse(f"{key}.instances", f"is {shard.instances}", "Allowed: 1 to 64.")
    if shard.progress_timeout and not 1 <= shard.progress_timeout < shard.request_timeout:
        refuse(
            f"{key}.progress_timeout",
            "is out of range",
            "Allowed: 1s or more, and below request_timeout.",
        )
    if shard.max_memory and shard.max_memory < LEAST_MEMORY:
        refuse(f"{key}.max_memory", "is too little", "Allowed: 64MB or more.")
    if shard.max_age and shard.max_age < LEAST_AGE_S:
        refuse(f"{key}.max_age", "is too short", f"Allowed: {LEAST_AGE_S}s or more.")
    if shard.max_requests is not None and shard.max_requests < 1:
        refuse(f"{key}.max_requests", f"is {shard.max_requests}", "Allowed: from 1.")
    if shard.daily_tokens is not None and shard.daily_tokens < 1:
        refuse(f"{key}.daily_tokens", f"is {shard.daily_tokens}", "Allowed: from 1.")
    if shard.daily_cost is not None and not 0 < shard.daily_cost < float("inf"):
        refuse(f"{key}.daily_cost", f"is {shard.daily_cost}", "Allowed: more than 0.")


def _check(config: Config, refuse: Refuse) -> None:
    if "main" not in config.shards:
        refuse("shards.main", "is missing", "Add [shards.main]: the first worker serves it.")
    delivery, access = config.delivery, config.access
    if not 1 <= delivery.max_attempts <= 100:
        refuse("delivery.max_attempts", f"is {delivery.max_attempts}", "Allowed: 1 to 100.")
    if not 1024 <= delivery.max_message <= 15 * 1024 * 1024:
        refuse("delivery.max_message", f"is {delivery.max_message}", "Allowed: 1024 to 15728640.")
    if not 1 <= delivery.visibility_timeout <= 3600:
        refuse("delivery.visibility_timeout", "is out of range", "Allowed: 1s to 1h.")
    if delivery.drain_timeout >= STOP_WAIT_S - 5:
        refuse(
            "delivery.drain_timeout",
            "is too long",
            f"Allowed: below {STOP_WAIT_S - 5}s, for supervisord kills after {STOP_WAIT_S}s.",
        )
    if access.rate_per_second <= 0 or access.rate_burst < 1:
        refuse("access", "leaves no message at all", "rate_per_second > 0, rate_burst >= 1.")
    bridge_settings.check(config.bridge, refuse)
    _check_gateway(config.gateway, refuse)


def _check_gateway(gateway: GatewaySection, refuse: Refuse) -> None:
    if gateway == GatewaySection():
        return
    try:
        local = gateway.address.is_local
    except UsageError as error:
        refuse("gateway.listen", f"is no address: {error.what}", error.mend)
    else:
        if not (local or gateway.allow_remote):
            refuse(
                "gateway.listen",
                f"is {gateway.listen}, which other machines can reach",
                "Listen on 127.0.0.1 or a unix socket; or set allow_remote = true, "
                "and make a token with: autopoll gateway token",
            )
    for host in gateway.allowed_hosts:
        if not re.fullmatch(_HOST, host, re.ASCII):
            refuse(
                "gateway.allowed_hosts",
                f"holds {host!r}, which is no host name",
                "Write names without a port: autopoll.example.org",
            )
    for origin in gateway.allowed_origins:
        if not re.fullmatch(_ORIGIN, origin, re.ASCII):
            refuse(
                "gateway.allowed_origins",
                f"holds {origin!r}, which is no origin",
                "Write scheme, name and port as browsers send them: https://app.example.org",
            )
    if not 1024 <= gateway.max_body <= 64 * 1024 * 1024:
        refuse("gateway.max_body", f"is {gateway.max_body}", "Allowed: 1KiB to 64MiB.")
    if not 1 <= gateway.max_connections <= 10_000:
        refuse("gateway.max_connections", f"is {gateway.max_connections}", "Allowed: 1 to 10000.")
    if not 1 <= gateway.max_wait <= 3600:
        refuse("gateway.max_wait", "is out of range", "Allowed: 1s to 1h.")
    if not 0.1 <= gateway.client_timeout <= 600:
        refuse("gateway.client_timeout", "is out of range", "Allowed: 100ms to 10m.")


def _override(raw: dict[str, Any], name: str, value: str) -> None:
    *tables, key = name.removeprefix(OVERRIDE_PREFIX).lower().split("__")
    table = raw
    for step in tables:
        inner = table.get(step, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{name} cannot be applied: {step} is not a table")
        table[step] = {**inner}  # a copy: it may be the caller's
        table = table[step]
    try:
        table[key] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        table[key] = value
