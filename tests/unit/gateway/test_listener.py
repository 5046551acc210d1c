"""Where the gateway listens, and what it leaves alone."""

import asyncio
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest
from doors import free_port

from autopoll.errors import AlreadyRunning, AutopollError, ConfigError
from autopoll.gateway.listener import open_listener
from autopoll.home.address import Address
from autopoll.home.home import Home

UNIX = Address(path="var/g.sock")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_unix_socket_is_private_whatever_the_umask(home) -> None:
    with closing(open_listener(home, UNIX)):
        assert stat.S_IMODE((home.root / UNIX.path).stat().st_mode) == 0o600


def test_the_socket_of_a_killed_gateway_is_replaced(home) -> None:
    open_listener(home, UNIX).close()  # and no unlink, as kill -9 leaves it
    with closing(open_listener(home, UNIX)), closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(home.root / UNIX.path))


def test_the_socket_of_one_that_lives_is_left_alone(home) -> None:
    with closing(open_listener(home, UNIX)):
        with pytest.raises(AlreadyRunning, match="another program listens"):
            open_listener(home, UNIX)
        assert (home.root / UNIX.path).is_socket()


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_is_no_socket_is_left_alone(home, kind) -> None:
    path = home.root / UNIX.path
    path.parent.mkdir()
    other = home.root / "other"
    other.write_text("mine")
    match kind:
        case "file":
            path.write_text("mine")
        case "link":
            path.symlink_to(other)
        case "folder":
            path.mkdir()
    with pytest.raises(ConfigError, match="is no socket"):
        open_listener(home, UNIX)
    assert other.read_text() == "mine"
    assert path.exists()


def test_a_path_too_long_for_the_kernel_is_refused_with_its_limit(home) -> None:
    with pytest.raises(ConfigError, match="at most 107 bytes"):
        open_listener(home, Address(path="x" * 108))


def test_a_port_that_is_taken_is_named(home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(AlreadyRunning, match=f"listens on {address}") as refused:
            open_listener(home, address)
    assert "gateway.listen" in refused.value.mend


def test_no_answer_waits_for_the_kernel_to_gather_more(home) -> None:
    """asyncio sets TCP_NODELAY on what is accepted only if the socket names its protocol."""

    async def accepted() -> int:
        set_by_asyncio: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            option = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            set_by_asyncio.set_result(option)
            writer.close()

        address = Address(host="127.0.0.1", port=free_port())
        server = await asyncio.start_server(greet, sock=open_listener(home, address))
        _, writer = await asyncio.open_connection(address.host, address.port)
        try:
            return await set_by_asyncio
        finally:
            writer.close()
            server.close()

    assert asyncio.run(accepted()) != 0


def test_an_address_that_is_not_ours_is_refused(home) -> None:
    with pytest.raises(AutopollError, match=r"cannot listen on 192\.0\.2\.1:80"):
        open_listener(home, Address(host="192.0.2.1", port=80))
