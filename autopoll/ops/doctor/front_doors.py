"""The gateway: its libraries, its port, and who can reach it."""

import socket
from collections.abc import Iterator
from importlib.util import find_spec

from autopoll.home.address import Address
from autopoll.home.config import GatewaySection
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
    bad = [*_look_at_address(subject, config.gateway)]
    yield from bad or [good("gateway", config.gateway.listen)]


def _look_at_address(subject: Subject, gateway: GatewaySection) -> Iterator[DoctorFinding]:
    processes = subject.status.processes if subject.status else []
    runs = any(each.name == GATEWAY and each.pid is not None for each in processes)
    if not runs and (why := _refusal(gateway.address)):
        what = f"nothing can listen at {gateway.listen}: {why}"
        yield failed("gateway", what, "Set another [gateway] listen, or end what has it: ss -ltnp")
    if gateway.address.host in _ANYWHERE:
        what = f"it listens at all addresses of this machine ({gateway.listen})"
        yield degraded("gateway", what, "Name one in [gateway] listen, or keep others out.")
        if not gateway.allowed_hosts:
            what = "no allowed_hosts are named: it answers to no name but localhost"
            yield degraded("gateway", what, "Set [gateway] allowed_hosts.")


def _refusal(address: Address) -> str:
    """Return why the system lets nobody listen there, empty when it does."""
    kind = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(kind, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((address.host, address.port))
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""
