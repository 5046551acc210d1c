"""Says to the service manager that started us how far we are: the datagram of sd_notify(3)."""

import os
import socket
from collections.abc import MutableMapping

SOCKET = "NOTIFY_SOCKET"


class ServiceNotice:
    """Sends notices to the socket of the service manager; to nobody where there is none."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """Take the address out of the environment, so that no child speaks in our name."""
        address = environ.pop(SOCKET, "")
        # A leading @ stands for the NUL of an abstract socket.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def send(self, *assignments: str) -> None:
        """Send such as `READY=1`; raises OSError when it is not taken at once."""
        if self._address:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto("\n".join(assignments).encode(), self._address)
