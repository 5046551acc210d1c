"""The programs of a home as files for supervisord, made from its settings."""

import io
import posixpath
from configparser import Error, RawConfigParser

from autopoll.errors import ConfigError
from autopoll.home import files
from autopoll.home.config import Config
from autopoll.home.home import Home

GATEWAY = "gateway"
_FIRST = "program:worker"
_HERE = "%(here)s"  # supervisord puts the folder of each file in its place

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
    """Return the section of the first worker, the model of all others."""
    sections = _sections(home.supervisord_conf.read_bytes())
    if _FIRST not in sections:
        raise ConfigError(
            f"{home.supervisord_conf} has no section [{_FIRST}]",
            f"Remove the file and make it anew with: autopoll init '{home.root}'",
        )
    return sections[_FIRST]


def _wanted(home: Home, config: Config) -> dict[str, dict[str, ProgramOptions]]:
    """Return the sections of each program file by its name."""
    first = worker_program(home)
    wanted: dict[str, dict[str, ProgramOptions]] = {}
    for name, shard in config.instances().items():
        if name != "worker":
            made = _named(first, name)
            words = made.get("command", "").split()
            for option, value in ("--shard", shard), ("--instance", name.rpartition("-")[2]):
                place = _place(home, words, option) + 1
                words[place : place + 1] = [value]
            made["command"] = " ".join(words)
            wanted.setdefault(f"{shard}.conf", {})[f"program:{name}"] = made
    if config.gateway.enabled:
        made = _named(first, GATEWAY)
        words = made.get("command", "").split()
        for option in ("--shard", "--instance"):
            place = _place(home, words, option)
            del words[place : place + 2]
        words[_place(home, words, "worker")] = GATEWAY
        made["command"] = " ".join(words)
        made["priority"] = "40"  # up last, down first: it only asks
        wanted[f"@{GATEWAY}.conf"] = {f"program:{GATEWAY}": made}  # no shard can have that name
    return wanted


def _place(home: Home, words: list[str], word: str) -> int:
    """Return where a word stands in the command of the first worker; raise ConfigError."""
    if word not in words:
        raise ConfigError(
            f"{home.supervisord_conf}: the command in [{_FIRST}] lacks {word}",
            "Write it as: autopoll worker --home . --shard main --instance 1",
        )
    return words.index(word)


def _named(first: ProgramOptions, name: str) -> ProgramOptions:
    """Return the options of the first worker for another program, in a file one folder deeper."""
    made = {key: value.replace(_HERE, f"{_HERE}/..") for key, value in first.items()}
    for key in ("stdout_logfile", "stderr_logfile"):
        folder, file = posixpath.split(made.get(key, ""))
        if file.startswith("worker."):
            made[key] = posixpath.join(folder, f"{name}.{file.removeprefix('worker.')}")
    return made


def _sections(data: bytes) -> dict[str, ProgramOptions]:
    """Return the sections of a file as supervisord reads them; none of what it cannot read."""
    parser = RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    try:
        parser.read_string(data.decode())
    except (Error, UnicodeDecodeError):
        return {}
    return {name: dict(parser[name]) for name in parser.sections()}


def _text(sections: dict[str, ProgramOptions]) -> bytes:
    parser = RawConfigParser()
    parser.read_dict(sections)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue().encode()
