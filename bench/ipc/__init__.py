"""The ways in which two processes on one host can talk, behind one contract.

Our `fifo` library stands among them as the product uses it. `pipes` is the floor; what lies between
the two is told apart by `pipes, asyncio`. The client is in this process, an echo server in another.
"""

from bench.ipc.bare import Bare
from bench.ipc.contract import Channel
from bench.ipc.framed import Framed
from bench.ipc.memory import Memory
from bench.ipc.named import Named
from bench.ipc.pipes import Pipes
from bench.ipc.spawn import Spawn
from bench.ipc.tcp import Tcp
from bench.ipc.unix import Unix

CHANNELS: tuple[type[Channel], ...] = (Spawn, Tcp, Unix, Named, Memory, Pipes, Bare, Framed)
