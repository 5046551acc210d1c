"""Requests and replies over a pair of named pipes, surviving the death of either end.

A *server* owns a folder and answers; a *client* asks. Two pipes in the folder join them,
requests.fifo and replies.fifo, each with one writer and one reader. Payloads are opaque bytes.
`fifo.server_end` and `fifo.client_end` have the two ends and show how they are used; `fifo.bell` is
a wake-up for processes that have no link; `fifo.exceptions` is what can go wrong. docs/protocol.md
specifies the bytes.

Theory of operation
-------------------

Pipes hang up at once when the other end is dead, are as private as the folder they lie in, and keep
nothing when both ends are gone; sockets are no faster where it counts (docs/ipc.md). They have
three weaknesses, and this library exists for them.

*A pipe does not know its writer.* Whoever is killed in mid-write leaves half a frame. If a new
writer opens the pipe before the reader has looked, there is no end of file in between, and its
first frame continues the torn one. So **a pair serves one client, once**. Every pair has an
**epoch**, a number that only grows. A client writes the epoch into client.lock before it opens the
pair. A client that finds its server's epoch there does not write, for the pair was used: it only
opens and closes the pipe (a knock). The server sees the hang-up, sweeps the pair away with
everything in it, and publishes a fresh one under the next epoch. The same happens whenever the
client leaves, dies or breaks the protocol. The frames carry the epoch too.

*A path does not know its file.* Anybody who can write to the folder can put a file, a symlink or
another pipe there. So every open is checked afterwards on the descriptor, endpoint.json names the
inodes of both pipes, and it is believed only while the process that wrote it runs (pid and start
time: a pid alone may be another's by now). The server withdraws endpoint.json before it touches the
pipes, which makes a foreign pipe distinguishable from a race.

*A write that succeeds proves nothing.* A stopped reader swallows a full pipe. So nothing blocks,
buffers are bounded, and the server hands out **credits**. That the other loop still turns is shown
by its answers alone: the program that uses the link sets deadlines.

Each end is held by one process: worker.lock and client.lock are flocks, which the kernel frees when
the holder dies, however it dies. They are also where the epochs outlive their processes.

Layers, each knowing only those before it:

- `frame`: bytes to frames and back; `session`, `server_session`, `client_session`: which frame may
  come when, and what it means. They touch no descriptor and are tested with bytes alone.
- `pipe`, `epoch_lock`, `endpoint`, `pair`: what lies in the folder.
- `bell`: a pipe of its own; `loop_bell`: one on an asyncio loop.
- `wire`: two descriptors on an asyncio loop.
- `link`: one pair in use; `handed_link`: one on its way through an exec; `server_end`,
  `client_end`: the two ends.
"""
