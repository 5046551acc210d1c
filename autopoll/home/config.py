"""autopoll.toml: typed, checked as a whole, frozen, and passed in."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from autopoll.clock import Duration
from autopoll.errors import ConfigError, UsageError
from autopoll.home.address import Address
from autopoll.home.home import Home, instance_name
from autopoll.home.units import ByteSize

SHARD_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?", re.ASCII)
OVERRIDE_PREFIX = "AUTOPOLL_"
STOP_WAIT_S = 30  # stopwaitsecs of every program in conf/supervisord.conf
LEAST_MEMORY = 64_000_000  # a worker with nothing in it has 31 MB
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9a-fA-F:.]+\]", re.ASCII)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9.\[\]:-]{1,260}", re.ASCII)
LEAST_AGE_S = 5  # what exits within startsecs counts for supervisord as a failed start


_T = TypeVar("_T", bound="_Section")


class _Section(msgspec.Struct, frozen=True):
    """The root of every table."""


class BridgeSection(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where conversations and messages are stored; a relative path is meant from the home."""

    url: str = "sqlite:///var/bridge.db"


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


class Config(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one home."""

    shards: dict[str, ShardSection]
    bridge: BridgeSection = BridgeSection()
    delivery: DeliverySection = DeliverySection()
    access: AccessSection = AccessSection()
    gateway: GatewaySection = GatewaySection()

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
    return parse(home.config, read_text(home.config), environ)


def read_text(path: Path) -> str:
    """Return the text of a settings file; raise ConfigError when it cannot be read."""
    try:
        if path.is_fifo():  # it would hold us for ever
            raise ConfigError(f"{path} is a pipe", "Put the settings there, as a file.")
        return path.read_text(encoding="utf-8-sig")  # Windows editors write a mark first
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def parse(path: Path, text: str, environ: Mapping[str, str]) -> Config:
    """Return the settings that a text would be at this path; raise ConfigError as `load` does."""
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    origin = str(path)
    for name, value in sorted(environ.items()):
        if name.startswith(OVERRIDE_PREFIX) and "__" in name:
            _override(raw, name, value)
            origin = f"{path} with {name}"
    shards = raw.get("shards")
    # One by one first, because msgspec does not name the key of a mapping in its errors.
    for name, table in shards.items() if isinstance(shards, dict) else ():
        _convert(table, ShardSection, origin, f"shards.{name}")
    config = _convert(raw, Config, origin)
    _check(config, origin)
    return config


def context_paths(home: Home, section: ShardSection) -> list[Path]:
    """Return a shard's context files and folders, absolute; raise ConfigError for what is none."""
    return [_context_path(home, entry) for entry in section.context]


def _context_path(home: Home, entry: str) -> Path:
    try:
        return (home.root / Path(entry).expanduser()).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # no such user, a NUL, a loop of links
        raise ConfigError(
            f"{home.config}: the context path {entry[:200]!r} cannot be used: {error}",
            "Name a file or a folder.",
        ) from error


def _check(config: Config, origin: str) -> None:
    """Refuse values that have the right type and still cannot work."""

    def refuse(key: str, why: str, mend: str = "") -> None:
        raise ConfigError(f"{origin}: {key} {why}", mend)

    if "main" not in config.shards:
        refuse("shards.main", "is missing", "Add [shards.main]: the first worker serves it.")
    for name, shard in config.shards.items():
        if not SHARD_NAME.fullmatch(name):
            refuse(f"shards.{name}", "is no shard name", "Use a-z, 0-9, - and _, 32 at most.")
        if not 1 <= shard.instances <= 64:
            refuse(f"shards.{name}.instances", f"is {shard.instances}", "Allowed: 1 to 64.")
        if shard.progress_timeout and not 1 <= shard.progress_timeout < shard.request_timeout:
            refuse(
                f"shards.{name}.progress_timeout",
                "is out of range",
                "Allowed: 1s or more, and below request_timeout.",
            )
        if shard.max_memory and shard.max_memory < LEAST_MEMORY:
            refuse(f"shards.{name}.max_memory", "is too little", "Allowed: 64MB or more.")
        if shard.max_age and shard.max_age < LEAST_AGE_S:
            refuse(f"shards.{name}.max_age", "is too short", f"Allowed: {LEAST_AGE_S}s or more.")
        if shard.max_requests is not None and shard.max_requests < 1:
            refuse(f"shards.{name}.max_requests", f"is {shard.max_requests}", "Allowed: from 1.")
        if shard.daily_tokens is not None and shard.daily_tokens < 1:
            refuse(f"shards.{name}.daily_tokens", f"is {shard.daily_tokens}", "Allowed: from 1.")
        if shard.daily_cost is not None and not 0 < shard.daily_cost < float("inf"):
            refuse(f"shards.{name}.daily_cost", f"is {shard.daily_cost}", "Allowed: more than 0.")
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
    _check_gateway(config.gateway, refuse)


def _check_gateway(gateway: GatewaySection, refuse: Callable[[str, str, str], None]) -> None:
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
        if not _HOST.fullmatch(host):
            refuse(
                "gateway.allowed_hosts",
                f"holds {host!r}, which is no host name",
                "Write names without a port: autopoll.example.org",
            )
    for origin in gateway.allowed_origins:
        if not _ORIGIN.fullmatch(origin):
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
        table = table.setdefault(step, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{name} cannot be applied: {step} is not a table")
    try:
        table[key] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        table[key] = value


def _decode(kind: type, value: Any) -> Any:
    if kind is Duration or kind is ByteSize:
        try:
            return kind.parse(value)
        except UsageError as error:
            raise ValueError(f"{error.what}; {error.mend}") from error
    raise NotImplementedError(kind)


def _convert(raw: Any, kind: type[_T], origin: str, key: str = "") -> _T:
    """Return raw as a checked section; raise ConfigError in the words of the file."""
    try:
        return msgspec.convert(raw, kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        where = f"{key}{path.rstrip('`')}".lstrip(".") or "top level"
        text = text.removeprefix("Object ").replace("missing required field", "lacks the key")
        text = text.replace("contains unknown field", "holds the unknown key")
        mend = _allowed(kind, path) if "unknown key" in text else ""
        raise ConfigError(f"{origin}: {where}: {text}", mend) from error


def _allowed(kind: type[_Section], path: str) -> str:
    """Name the keys of the table in which an unknown key stands."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    inner = path.strip(".`")
    if inner in fields:
        fields = {field.name: field for field in msgspec.structs.fields(fields[inner].type)}
    return f"Allowed: {', '.join(fields)}."
