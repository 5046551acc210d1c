"""autopoll.toml, the programs it names, and the time-outs that must fit together."""

import configparser
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from autopoll.backends.claude_code.program import bundled
from autopoll.errors import ConfigError, Exit
from autopoll.home.config import Config, ShardSection
from autopoll.home.home import Home
from autopoll.ops.doctor.findings import DoctorFinding, degraded, failed, good, of_error
from autopoll.ops.doctor.subject import Subject
from autopoll.ops.process_tree import environ_of_process
from autopoll.ops.start_checks import check_start


def look(subject: Subject) -> Iterator[DoctorFinding]:
    """Check the settings as `autopoll up` does, starting nothing."""
    home = subject.home
    if subject.config_error:
        error = subject.config_error
        yield failed("config", error.what, error.mend, Exit.USAGE)
        return
    assert subject.config is not None
    yield good("config", str(home.config))
    try:
        check_start(home, subject.config)
    except ConfigError as error:
        yield of_error("start", error)
    except OSError as error:
        yield failed("start", f"{error.filename}: {error.strerror}", "Make it readable again.")
    yield from _look_at_waits(home, subject.config)
    if subject.supervisord is not None:
        yield from _look_at_service(subject.config, environ_of_process(subject.supervisord))


def _look_at_service(config: Config, environ: Mapping[str, str]) -> Iterator[DoctorFinding]:
    """Look for what the shell of whoever looks has, and the running service has not."""
    path = environ.get("PATH", os.defpath)
    for shard, section in config.shards.items():
        program = _program_on_path(section)
        if program and shutil.which(program, path=path) is None:
            what = f"{program} of shard {shard} is not in the PATH of the service: {path}"
            mend = "Give its whole path, or start all again where it is found: autopoll restart"
            yield failed("program", what, mend)
    folder = environ.get("HOME", "")
    if not Path(folder or "/nonexistent").is_dir():
        what = f"the HOME of the service is no folder: {folder or 'it has none'}"
        yield degraded("HOME", what, "Start all again where it is set: autopoll restart")


def _program_on_path(section: ShardSection) -> str | None:
    """Return the program of a shard that is looked for on PATH; None when none is."""
    if section.backend == "claude-code" and "cli_path" not in section.options:
        return None if bundled() else "claude"
    command = section.options.get("command")
    if not isinstance(command, list) or not command or "/" in str(command[0]):
        return None
    return str(command[0])


def _look_at_waits(home: Home, config: Config) -> Iterator[DoctorFinding]:
    """Look whether supervisord kills what is still draining."""
    drain = float(config.delivery.drain_timeout)
    for path in (home.supervisord_conf, *sorted(home.program_files.glob("*.conf"))):
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError) as error:
            words = " ".join(str(error).split())
            yield failed("programs", f"{path}: {words}", "Mend it, or restore it: autopoll init")
            continue
        for section in parser.sections():
            if not section.startswith("program:"):
                continue
            wait = parser.get(section, "stopwaitsecs", fallback="10")
            if wait.strip().isdigit() and int(wait) < drain:
                yield degraded(
                    "stop time-out",
                    f"{path}: {section} has {wait} s to stop, and drains for {drain:g} s",
                    f"Set stopwaitsecs above {drain:g} there, or [delivery] drain_timeout below.",
                )
