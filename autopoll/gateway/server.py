"""The gateway process: serves over HTTP until TERM, and beats meanwhile.

As long as it cannot listen it is held, and tries again every second.

On TERM it takes no more connections, answers those that wait that it ends (503, with Retry-After;
their questions are kept), and ends when these answers are sent. Nothing is lost with it: what was
asked is in the bridge.
"""

import asyncio
import logging
import resource
import socket
from functools import partial

import uvicorn

from autopoll.errors import AlreadyRunning, ConfigError
from autopoll.gateway.app import build
from autopoll.gateway.audit import Audit
from autopoll.gateway.http_connection import IDLE_S, ConnectionLimits, HttpConnection
from autopoll.gateway.hub import Hub
from autopoll.gateway.listener import BACKLOG, open_listener
from autopoll.gateway.mcp.http import McpEndpoint
from autopoll.home import fingerprint, operator_token
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.process import role
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart

NAME = "gateway"
BEAT_S = 1.0
MAX_HEADERS = 16 * 1024  # bytes of a request's line and headers
OWN_FILES = 128  # descriptors beside those of connections, and for those about to be evicted
WATCHED_SHARE = 0.8  # of the descriptors, above which the watchdog calls it a leak
LEAVE_S = 5  # for answers to be sent at the end

log = logging.getLogger(__name__)


class Gateway:
    """One per home."""

    def __init__(self, home: Home, config: Config) -> None:
        self.home = home
        self.config = config
        self.stopping = asyncio.Event()

    async def run(self, heart: Heart) -> None:
        """Serve until TERM, or until supervisord is gone."""
        role.end_by(self.stopping.set)
        settings = self.config.gateway
        listener = await self.listen(heart)
        if listener is None:
            return
        async with Hub(self.home, self.config) as hub, McpEndpoint(hub) as endpoint:
            audit = Audit(hub)
            limits = ConnectionLimits(settings.max_connections, settings.client_timeout, audit)
            server = self.server(build(hub, endpoint, audit), limits)
            await server.open(listener)
            heart.note = ""
            heart.state = ProcessState.IDLE
            log.info("serving on %s", settings.address)
            while not (self.stopping.is_set() or hub.crash):
                heart.beat()
                heart.note = f"{hub.waiting} wait for answers" if hub.waiting else ""
                await server.look_after()
                await role.wait(self.stopping, BEAT_S)
            heart.state = ProcessState.DRAINING
            hub.drain()
            endpoint.drain()
            await server.shutdown([listener])
            if hub.crash:
                raise hub.crash
        if settings.address.path:
            (self.home.root / settings.address.path).unlink(missing_ok=True)

    async def listen(self, heart: Heart) -> socket.socket | None:
        """Return a socket that listens; None when TERM comes before there is one.

        An address that is taken, or not there yet, may be free at any time: until then it is held,
        with the reason, and all else in the home goes on.
        """
        reason = ""
        while not self.stopping.is_set():
            try:
                return open_listener(self.home, self.config.gateway.address)
            except (AlreadyRunning, ConfigError) as error:
                found = f"{error.what}. {error.mend}"
                if found != reason:
                    log.error("held: %s", found)
                heart.note = reason = found  # before the state, which is shown with its reason
                heart.state = ProcessState.HELD
            heart.beat()
            await role.wait(self.stopping, BEAT_S)
        return None

    def server(self, app: object, limits: ConnectionLimits) -> "UvicornServer":
        """Return uvicorn, with all in it that a supervised program does for itself left out."""
        return UvicornServer(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                http=partial(HttpConnection, limits=limits),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # an address that a client gives of itself proves nothing
                h11_max_incomplete_event_size=MAX_HEADERS,
                timeout_keep_alive=IDLE_S,
                backlog=limits.admission.at_once,
                timeout_graceful_shutdown=LEAVE_S,
            )
        )


class UvicornServer(uvicorn.Server):
    """uvicorn on our own loop and our own signals."""

    async def open(self, listener: socket.socket) -> None:
        """Begin to serve."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[listener])
        listener.listen(BACKLOG)  # which asyncio has set to what it takes in one turn

    async def look_after(self) -> None:
        """Keep the Date header right and cut connections that take too long; once a second."""
        await self.on_tick(0)
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            assert isinstance(connection, HttpConnection)
            connection.look(now)


def run(home: Home, config: Config) -> None:
    """Be the gateway process until TERM; raise what makes it impossible."""
    if not config.gateway.address.is_local and not operator_token.exists(home):
        raise ConfigError(
            f"{home.config}: gateway.listen is {config.gateway.listen}, which other machines can "
            "reach, and there is no operator's token",
            "Make one with: autopoll gateway token",
        )
    make_room(config.gateway.max_connections)
    with role.alone(home, NAME), Heart.open(home.beats, NAME, NAME) as heart:
        heart.settings = fingerprint.of_gateway(config)
        asyncio.run(Gateway(home, config).run(heart))


def make_room(connections: int) -> None:
    """See that so many connections can be open; raise ConfigError when the system forbids it."""
    needed = int((connections + OWN_FILES) / WATCHED_SHARE) + 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigError(
            f"gateway.max_connections = {connections} needs {needed} open files, of which this "
            f"user may have {hard}",
            "Lower it, or raise the limit (ulimit -n).",
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
