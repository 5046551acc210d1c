"""The ways in which two processes on one host can talk, behind one contract.

Our `fifo` library stands among them as the product uses it. `pipes` is the floor; what lies between
the two is told apart by `pipes, asyncio`. The client is in this process, an echo server in another.
"""

from autopoll.bench.ipc.bare import Bare
from autopoll.bench.ipc.contract import Channel
from autopoll.bench.ipc.framed import Framed
from autopoll.bench.ipc.memory import Memory
from autopoll.bench.ipc.named import Named
from autopoll.bench.ipc.pipes import Pipes
from autopoll.bench.ipc.spawn import Spawn
from autopoll.bench.ipc.tcp import Tcp
from autopoll.bench.ipc.unix import Unix

CHANNELS: tuple[type[Channel], ...] = (Spawn, Tcp, Unix, Named, Memory, Pipes, Bare, Framed)
