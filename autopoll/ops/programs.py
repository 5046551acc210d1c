"""The programs of a home as files for supervisord, made from its settings."""

import io
import re
from configparser import Error, RawConfigParser

from autopoll.errors import ConfigError
from autopoll.home import files
from autopoll.home.config import Config
from autopoll.home.home import Home

GATEWAY = "gateway"
_FIRST = "program:worker"
_HERE = "%(here)s"  # supervisord puts the folder of each file in its place
# The arguments of the first worker, in any order; all of them, or their values, may be quoted.
_VALUE = r"""[\s=]+(?:"\w[\w-]*"|'\w[\w-]*'|\w[\w-]*)"""
_ARGUMENTS = {
    "--shard": re.compile(rf"\s+--shard{_VALUE}"),
    "--instance": re.compile(rf"\s+--instance{_VALUE}"),
    "worker": re.compile(r"(?<=\s)worker(?=\s+-)"),
}

ProgramOptions = dict[str, str]  # the options of a section as they stand in a file, `%%` and all


def names_of(config: Config) -> list[str]:
    """Return every program that a home with these settings has."""
    names = ["watchdog", *config.instances(), "poller"]
    return [*names, GATEWAY] if config.gateway.enabled else names


def write_programs(home: Home, config: Config) -> None:
    """Write a program file for each instance that conf/supervisord.conf does not name itself, and
    for the gateway."""
    wanted = _wanted(home, config)
    for old in home.program_files.glob("*.conf"):
        if old.name not in wanted:
            old.unlink()
    if wanted:
        home.program_files.mkdir(mode=0o700, exist_ok=True)
    for name, sections in wanted.items():
        path = home.program_files / name
        if _sections(files.get(path) or b"") != sections:  # so conf may be read-only, in an image
            files.put(path, _text(sections))


def worker_program(home: Home) -> ProgramOptions:
    """Return the section of the first worker, the model of all others; raise ConfigError."""
    try:
        sections = _parsed(home.supervisord_conf.read_bytes())
    except (Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{home.supervisord_conf} cannot be read: {reason}", "Mend that line of the file."
        ) from error
    if _FIRST not in sections:
        raise ConfigError(
            f"{home.supervisord_conf} has no section [{_FIRST}]",
            f"Remove the file and make it again with: autopoll init '{home.root}'",
        )
    return sections[_FIRST]


def _wanted(home: Home, config: Config) -> dict[str, dict[str, ProgramOptions]]:
    """Return the sections of each program file by its name."""
    first = worker_program(home)
    wanted: dict[str, dict[str, ProgramOptions]] = {}
    for name, shard in config.instances().items():
        if name != "worker":
            made = _named(first, name)
            command = _replaced(home, made.get("command", ""), "--shard", f" --shard {shard}")
            number = name.rpartition("-")[2]
            made["command"] = _replaced(home, command, "--instance", f" --instance {number}")
            wanted.setdefault(f"{shard}.conf", {})[f"program:{name}"] = made
    if config.gateway.enabled:
        made = _named(first, GATEWAY)
        command = made.get("command", "")
        for argument, value in ("worker", GATEWAY), ("--shard", ""), ("--instance", ""):
            command = _replaced(home, command, argument, value)
        made["command"] = command
        if made.get("priority", "20") == "20":
            made["priority"] = "40"  # up last, down first: it only asks
        wanted[f"@{GATEWAY}.conf"] = {f"program:{GATEWAY}": made}  # no shard can have that name
    return wanted


def _replaced(home: Home, command: str, argument: str, value: str) -> str:
    """Return the command of the first worker with another argument, and the rest as it is written.

    Raises ConfigError when the argument is not there.
    """
    made, count = _ARGUMENTS[argument].subn(lambda _: value, command, count=1)
    if not count:
        raise ConfigError(
            f"{home.supervisord_conf}: the command in [{_FIRST}] lacks {argument}",
            "Write it as: autopoll worker --home . --shard main --instance 1",
        )
    return made


def _named(first: ProgramOptions, name: str) -> ProgramOptions:
    """Return the options of the first worker for another program, in a file one folder deeper."""
    made = {key: value.replace(_HERE, f"{_HERE}/..") for key, value in first.items()}
    for key in ("stdout_logfile", "stderr_logfile"):  # two programs must not turn over one file
        folder, slash, file = made.get(key, "").rpartition("/")
        if file.startswith("worker."):
            made[key] = f"{folder}{slash}{name}.{file.removeprefix('worker.')}"
    return made


def _sections(data: bytes) -> dict[str, ProgramOptions]:
    """Return the sections of a program file; none of what cannot be read, for it is ours."""
    try:
        return _parsed(data)
    except (Error, UnicodeDecodeError):
        return {}


def _parsed(data: bytes) -> dict[str, ProgramOptions]:
    """Return the sections of a file as supervisord reads them."""
    parser = RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(data.decode())
    return {name: dict(parser[name]) for name in parser.sections()}


def _text(sections: dict[str, ProgramOptions]) -> bytes:
    parser = RawConfigParser()
    parser.read_dict(sections)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue().encode()
