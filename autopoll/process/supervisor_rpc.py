"""supervisord's XML-RPC over its unix socket, with a time-out that supervisorctl lacks.

A stopped supervisord still accepts connections (the kernel does) and then says nothing for ever;
each call has its own connection and gives up after `timeout` seconds without a byte.
"""

import http.client
import socket
import time
import xmlrpc.client
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import msgspec

from autopoll.errors import Exit, NotFound, SupervisorError

_PATIENCE = 90.0  # for calls that wait for a program, longer than any stopwaitsecs of ours
_STEP_S = 0.05

_SHUTTING_DOWN = 6
_BAD_NAME = 10
_ALREADY_STARTED = 60
_NOT_RUNNING = 70
_ALREADY_ADDED = 90


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program as supervisord sees it; times are wall-clock seconds, 0 for never."""

    name: str
    group: str
    # STOPPED STARTING RUNNING BACKOFF STOPPING EXITED FATAL UNKNOWN
    state: str = msgspec.field(name="statename")
    pid: int  # 0 when it does not run
    start: int
    stop: int
    now: int
    exitstatus: int  # of the last exit, known in state EXITED only
    spawnerr: str
    description: str

    @property
    def full_name(self) -> str:
        """The name the calls take."""
        return f"{self.group}:{self.name}"

    @property
    def runs(self) -> bool:
        """Whether supervisord has it up, is bringing it up, or will try again by itself."""
        return self.state in ("RUNNING", "STARTING", "BACKOFF")

    @property
    def refused_settings(self) -> bool:
        """Whether it has ended over a mistake in its settings, and so is not started again."""
        return self.state == "EXITED" and self.exitstatus == Exit.BAD_CONFIG

    @property
    def is_given_up(self) -> bool:
        """Whether supervisord does not start it again, though no operator has stopped it."""
        return self.state == "FATAL" or self.refused_settings


class Changes(msgspec.Struct, frozen=True):
    """Groups that differ between the configuration on disk and what runs."""

    added: list[str]
    changed: list[str]
    removed: list[str]


class Supervisor:
    """A client of one supervisord.

    Every call raises SupervisorError: with `hung` when supervisord is there and does not answer,
    with `stopping` when it is going down, with neither when nobody listens or it refuses. Calls
    that name a program raise NotFound for one that supervisord does not know.
    """

    def __init__(self, socket: Path, timeout: float = 2.0) -> None:
        self._socket = socket
        self._timeout = timeout

    def processes(self) -> list[Program]:
        """Return every program, in the order of their names."""
        return msgspec.convert(self._call("supervisor.getAllProcessInfo"), list[Program])

    def process(self, name: str) -> Program:
        """Return one program."""
        return msgspec.convert(self._call("supervisor.getProcessInfo", name), Program)

    def start(self, name: str, wait: bool = False) -> None:
        """Start a program, and `wait` until it counts as running; one that runs is left alone."""
        self._call("supervisor.startProcess", name, wait, but=_ALREADY_STARTED, wait=wait)

    def stop(self, name: str, wait: bool = False) -> None:
        """Stop a program, and `wait` until it has ended; one that is stopped is left alone."""
        self._call("supervisor.stopProcess", name, wait, but=_NOT_RUNNING, wait=wait)

    def restart(self, name: str) -> None:
        """Stop a program, waiting until it has ended, and start it."""
        self.stop(name, wait=True)
        # A start is lost on a program that somebody else is stopping; `stop` did not wait for it.
        end = time.monotonic() + _PATIENCE
        while self._is_stopping(name, end):
            time.sleep(_STEP_S)
        self.start(name)

    def _is_stopping(self, name: str, end: float) -> bool:
        """Tell whether a program may still be stopping; raises SupervisorError from `end` on."""
        is_late = time.monotonic() >= end
        try:
            stopping = self.process(name).state == "STOPPING"
        except SupervisorError as error:
            if is_late or not error.hung:
                raise
            return True  # slow: to give up here would leave the program stopped
        if stopping and is_late:
            raise SupervisorError(
                f"supervisord is still stopping {name}, and has not started it again",
                f"When `autopoll status` shows it as stopped: autopoll restart {name}",
            )
        return stopping

    def signal(self, name: str, signal: str) -> None:
        """Send a signal ("HUP", "10") to a running program."""
        self._call("supervisor.signalProcess", name, signal)

    def pid(self) -> int:
        """Return supervisord's own pid."""
        return msgspec.convert(self._call("supervisor.getPID"), int)

    def state(self) -> str:
        """Return supervisord's own state: RUNNING, RESTARTING, SHUTDOWN or FATAL."""
        return msgspec.convert(self._call("supervisor.getState")["statename"], str)

    def shutdown(self) -> None:
        """Have supervisord stop every program and exit; returns before that is done."""
        self._call("supervisor.shutdown")

    def reload_config(self) -> Changes:
        """Have the configuration read again and return what differs; changes nothing that runs."""
        added, changed, removed = self._call("supervisor.reloadConfig")[0]
        return Changes(added, changed, removed)

    def add_group(self, group: str) -> None:
        """Take up a group of the configuration read last; its programs start by themselves."""
        self._call("supervisor.addProcessGroup", group, but=_ALREADY_ADDED)

    def stop_group(self, group: str, wait: bool = False) -> None:
        """Stop every program of a group."""
        self._call("supervisor.stopProcessGroup", group, wait, wait=wait)

    def remove_group(self, group: str) -> None:
        """Forget a group; refused while one of its programs runs."""
        self._call("supervisor.removeProcessGroup", group)

    def _call(self, method: str, *arguments: Any, but: int = 0, wait: bool = False) -> Any:
        """Call a method and return its result, or None when it fails with the fault `but`."""
        request = xmlrpc.client.dumps(arguments, method).encode()
        connection = _UnixSocketConnection(self._socket, _PATIENCE if wait else self._timeout)
        try:
            connection.request("POST", "/RPC2", request, {"Content-Type": "text/xml"})
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise SupervisorError(
                    f"what listens on {self._socket} answers {response.status} {response.reason}",
                    "Another program may have taken supervisord's socket.",
                )
            return xmlrpc.client.loads(body)[0][0]
        except xmlrpc.client.Fault as fault:
            if but and fault.faultCode == but:
                return None
            if fault.faultCode == _BAD_NAME:
                raise NotFound(
                    f"supervisord knows no program {arguments[0]!r}", "See: autopoll status"
                ) from None
            if fault.faultCode == _SHUTTING_DOWN:
                raise SupervisorError(
                    f"supervisord on {self._socket} is going down",
                    "Wait until it is down; then: autopoll up",
                    stopping=True,
                ) from None
            raise SupervisorError(f"supervisord refuses {method}: {fault.faultString}") from None
        except TimeoutError:
            raise SupervisorError(
                f"supervisord does not answer on {self._socket}",
                "It is hung or stopped; see: autopoll health",
                hung=True,
            ) from None
        except BlockingIOError:  # a unix socket whose queue of callers is full
            raise SupervisorError(
                f"supervisord takes no more calls on {self._socket}",
                "It is hung or stopped; see: autopoll health",
                hung=True,
            ) from None
        except (ExpatError, http.client.HTTPException, OSError) as error:
            raise SupervisorError(
                f"supervisord is not running: {self._socket}: {_reason(error)}",
                "Start it with: autopoll up",
            ) from None
        finally:
            connection.close()


class _UnixSocketConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _reason(error: Exception) -> str:
    return (
        (error.strerror if isinstance(error, OSError) else None)
        or str(error)
        or type(error).__name__
    )
