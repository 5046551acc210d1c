"""A home with a gateway, and real clients of it."""

import socket
import sys
from pathlib import Path
from typing import Any

import httpx
from place import Place, until

SHUT = Path(__file__).parent / "data" / "shut.py"
HEADERS = {"Content-Type": "application/json"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def config(listen: str, **gateway: Any) -> str:
    """Return settings with a gateway, a gated shard `main` and the quick shard `echo`."""
    more = "\n".join(f"{key} = {value}" for key, value in gateway.items())
    return f"""
[access]
rate_burst = 400
rate_per_second = 2.0
[shards.main]
backend = "command"
[shards.main.options]
command = ['{sys.executable}', '{SHUT}']
ready = true
concurrency = 16
[shards.echo]
backend = "echo"
[gateway]
enabled = true
listen = "{listen}"
{more}
"""


class Door:
    """The gateway of one home, and the operator's token to it."""

    def __init__(self, root: Path, **gateway: Any) -> None:
        port = free_port()
        self.place = Place(root, config(f"127.0.0.1:{port}", **gateway))
        self.address = ("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{port}"
        self.token: str = self.place.json("gateway", "token")["token"]

    def client(self, token: str | None = None, **more: Any) -> httpx.Client:
        """Return a client that shows a token; the operator's unless one is given."""
        shown = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.Client(base_url=self.url, headers=shown, timeout=30, **more)

    def open_gate(self, is_open: bool = True) -> None:
        """Let the shard main answer, or keep it from answering."""
        go = self.place.root / "go"
        if is_open:
            go.touch()
        else:
            go.unlink(missing_ok=True)

    def serves(self) -> None:
        """Wait until it serves, again."""

        def healthy() -> bool:
            try:
                return httpx.get(f"{self.url}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        until(healthy, 90, "the gateway to serve")

    def denials(self) -> list[tuple[str | None, str]]:
        """Return who was refused, and why, as it was audited."""
        import json

        import apsw

        database = apsw.Connection(
            str(self.place.root / "var" / "bridge.db"), flags=apsw.SQLITE_OPEN_READONLY
        )
        rows = database.execute(
            "SELECT conversation_id, details FROM audit_log WHERE action='access_denied'"
        ).fetchall()
        database.close()
        return [(conversation, json.loads(details)["why"]) for conversation, details in rows]
