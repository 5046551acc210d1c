"""The gateway: its libraries, its port, and who can reach it."""

import socket
from collections.abc import Iterator
from importlib.util import find_spec

from autopoll.home.address import Address
from autopoll.home.installation import extra_command
from autopoll.ops.doctor.findings import DoctorFinding, degraded, failed, good
from autopoll.ops.doctor.subject import Subject
from autopoll.ops.process_tree import GATEWAY

_ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - looked for, not listened at


def look(subject: Subject) -> Iterator[DoctorFinding]:
    """Look at the gateway, where it is enabled."""
    config = subject.config
    if config is None or not config.gateway.enabled:
        return
    missing = [name for name in ("fastapi", "uvicorn", "mcp") if find_spec(name) is None]
    if missing:
        what = f"the gateway is enabled, and {', '.join(missing)} is not installed"
        yield failed("gateway", what, f"Run: {extra_command('gateway')}")
        return
    address = config.gateway.address
    beat = (
        next((each for each in subject.status.processes if each.name == GATEWAY), None)
        if (subject.status)
        else None
    )
    if (beat is None or beat.pid is None) and _is_taken(address):
        what = f"another program listens at {config.gateway.listen}"
        yield failed("gateway", what, "End it, or set another [gateway] listen.")
    if address.host in _ANYWHERE:
        what = f"it listens at all addresses of this machine ({config.gateway.listen})"
        yield degraded("gateway", what, "Name one in [gateway] listen, or keep others out.")
        if not config.gateway.allowed_hosts:
            what = "no allowed_hosts are named: it answers to no name but localhost"
            yield degraded("gateway", what, "Set [gateway] allowed_hosts.")
    elif not missing:
        yield good("gateway", config.gateway.listen)


def _is_taken(address: Address) -> bool:
    kind = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address.host, address.port))
        except OSError:
            return True
    return False
