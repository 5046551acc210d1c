"""The home folder: where it is and where everything in it lies."""

import os
from functools import cached_property
from pathlib import Path

import msgspec

from autopoll.errors import ConfigError

CONFIG_NAME = "autopoll.toml"
SOCKET_LIMIT = 95  # bytes of path; supervisord adds its pid before it binds


class Home(msgspec.Struct, frozen=True, dict=True):
    """One home; every path that two parts of autopoll share is named here and nowhere else."""

    root: Path

    @cached_property
    def config(self) -> Path:
        """The settings, written by people."""
        return self.root / CONFIG_NAME

    @cached_property
    def supervisord_conf(self) -> Path:
        """The process tree, as supervisord and supervisorctl read it."""
        return self.root / "conf" / "supervisord.conf"

    @cached_property
    def shard_files(self) -> Path:
        """The settings of shards, a file each, written by `shards add` and by people."""
        return self.root / "shards.d"

    @cached_property
    def program_files(self) -> Path:
        """Program files of the instances beyond the first of shard main, written by us."""
        return self.root / "conf" / "shards.d"

    @cached_property
    def var(self) -> Path:
        """Everything that changes, private to the owner (0700)."""
        return self.root / "var"

    @cached_property
    def credentials(self) -> Path:
        """The tokens of this home's own sessions (0600)."""
        return self.var / "credentials"

    @cached_property
    def operator_token(self) -> Path:
        """The digest of the operator's token (0600)."""
        return self.var / "operator.token"

    @cached_property
    def identity(self) -> Path:
        """The random id by which a bridge tells this home from others (0600)."""
        return self.var / "home.id"

    @cached_property
    def desk(self) -> Path:
        """Who may look at the page (0700); made with the first `autopoll desk`."""
        return self.var / "desk"

    @cached_property
    def backups(self) -> Path:
        """Copies of the bridge as it was before each migration (0700); made with the first."""
        return self.var / "backups"

    @cached_property
    def disk_samples(self) -> Path:
        """How much room the disks had, once an hour (0600)."""
        return self.var / "disk.samples"

    @cached_property
    def locks(self) -> Path:
        """Lock files; never deleted, because deleting a lock that someone holds splits it."""
        return self.var / "lock"

    @cached_property
    def supervisord_lock(self) -> Path:
        """Held by the supervisord of the home for as long as it lives."""
        return self.locks / "supervisord.lock"

    @cached_property
    def change_lock(self) -> Path:
        """Held by what brings the home up or down, changes the settings, or applies them."""
        return self.locks / "settings.lock"

    @cached_property
    def log(self) -> Path:
        """Rotating logs of every role."""
        return self.var / "log"

    @cached_property
    def incidents(self) -> Path:
        """Every kill and restart with its reason, one JSON object a line."""
        return self.log / "incidents.jsonl"

    @cached_property
    def evidence(self) -> Path:
        """What was seen before each kill, a folder per incident."""
        return self.log / "incidents"

    @cached_property
    def run(self) -> Path:
        """What only means something while processes live; empty when the home is down."""
        return self.var / "run"

    @cached_property
    def beats(self) -> Path:
        """Heartbeat files, one per process, named as supervisord names it."""
        return self.run / "beats"

    @cached_property
    def workers(self) -> Path:
        """The pipe pairs, a folder per worker."""
        return self.run / "workers"

    @cached_property
    def gates(self) -> Path:
        """What each worker remembers of its crashes, a file per worker that had one."""
        return self.run / "gates"

    @cached_property
    def pauses(self) -> Path:
        """The shards that are paused, a file each; removing it ends the pause."""
        return self.run / "pauses"

    @cached_property
    def manual_pauses(self) -> Path:
        """The shards that somebody has paused by hand, a file each; they outlive everything."""
        return self.var / "pauses"

    @cached_property
    def operations(self) -> Path:
        """Who started, stopped and paused what, one JSON object a line."""
        return self.log / "operations.jsonl"

    @cached_property
    def remarks(self) -> Path:
        """What each worker reports of single context files, a file per worker that does."""
        return self.run / "remarks"

    @cached_property
    def bell(self) -> Path:
        """The poller's bell, rung after a commit."""
        return self.run / "bell.fifo"

    @cached_property
    def poller_socket(self) -> Path:
        """The socket on which askers reach the poller (0600)."""
        return self.run / "poller.sock"

    def make_private(self) -> None:
        """Create the folders under var/ with mode 0700, whatever the umask."""
        for folder in (
            self.var, self.locks, self.log, self.evidence, self.run,
            self.beats, self.workers, self.gates, self.pauses, self.remarks, self.manual_pauses,
        ):  # fmt: skip
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)


def socket_path(home: Home) -> Path:
    """Return supervisord's socket, as conf/supervisord.conf names it.

    Raises ConfigError when the file cannot be read, names none, or names one too long to bind.
    """
    from configparser import Error, RawConfigParser

    conf = home.supervisord_conf
    parser = RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    try:
        parser.read_string(conf.read_text(encoding="utf-8"))
        text = parser.get("unix_http_server", "file")
    except OSError as error:
        raise ConfigError(
            f"{conf} cannot be read: {error.strerror}", f"Make it with: autopoll init '{home.root}'"
        ) from error
    except (Error, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{conf} names no socket: {error}", "Give [unix_http_server] a file, or make it again."
        ) from error
    path = os.path.normpath(conf.parent / text.replace("%(here)s", str(conf.parent)))
    length = len(os.fsencode(path))
    if length > SOCKET_LIMIT:
        raise ConfigError(
            f"socket path too long: {path} has {length} bytes, at most {SOCKET_LIMIT} work",
            f"Remove {conf} and run autopoll init '{home.root}', which picks a short one.",
        )
    return Path(path)


def default_root() -> Path:
    """Return the platform's state folder for autopoll, the home of last resort."""
    import platformdirs

    return platformdirs.user_state_path("autopoll")


def instance_name(shard: str, number: int) -> str:
    """Return the name supervisord, beats and pipes use for one instance (numbers from 1)."""
    return "worker" if shard == "main" and number == 1 else f"worker-{shard}-{number}"


def shard_of(worker: str) -> str:
    """Return the shard that a worker's name names."""
    return "main" if worker == "worker" else worker.removeprefix("worker-").rpartition("-")[0]
