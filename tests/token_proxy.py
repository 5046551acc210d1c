"""A proxy before a gateway that adds a token, for clients that know of none."""

import asyncio
from collections.abc import Mapping

from loopback_proxy import HOST, LoopbackProxy

LINE = b"\r\n"
OURS = (b"authorization:", b"connection:", b"content-length:")  # headers that are written here


class TokenProxy(LoopbackProxy):
    """Forwards one HTTP request a connection.

    Host and Origin are left as they came; `names` are replaced, wherever they stand.
    """

    def __init__(self, port: int, upstream: int, token: str, names: Mapping[str, str]) -> None:
        super().__init__(port)
        self._upstream = upstream
        self._token = token
        self._names = {name.encode(): ours.encode() for name, ours in names.items()}

    async def _forward(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            head = self._renamed(await client.readuntil(LINE + LINE))
            first, *headers = head.split(LINE)[:-2]
            lengths = [each for each in headers if each.lower().startswith(b"content-length:")]
            body = await client.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
        except (asyncio.IncompleteReadError, ConnectionError):  # a connection that is not used
            answer.close()
            return
        body = self._renamed(body)
        kept = [each for each in headers if not each.lower().startswith(OURS)]
        ours = f"Authorization: Bearer {self._token}\r\nConnection: close\r\nContent-Length: "
        server, request = await asyncio.open_connection(HOST, self._upstream)
        request.write(LINE.join([first, *kept, ours.encode() + b"%d" % len(body), b"", body]))
        ends = [asyncio.ensure_future(each) for each in (_copy(server, answer), client.read())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        request.close()
        answer.close()

    def _renamed(self, data: bytes) -> bytes:
        for name, ours in self._names.items():
            data = data.replace(name, ours)
        return data


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(64 * 1024):
        target.write(data)
        await target.drain()
