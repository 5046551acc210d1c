"""autopoll.toml, the programs it names, and the time-outs that must fit together."""

import configparser
from collections.abc import Iterator

from autopoll.errors import ConfigError, Exit
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.ops.doctor.findings import DoctorFinding, degraded, failed, good, of_error
from autopoll.ops.doctor.subject import Subject
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
