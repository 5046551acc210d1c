"""The options of the backend `claude-code`."""

from typing import Annotated, Literal

import msgspec

from autopoll.backends.options import Options
from autopoll.clock import Duration
from autopoll.home.byte_size import ByteSize

TURNS_WITH_TOOLS = 20
KEY_ENV = "ANTHROPIC_API_KEY"

Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Tokens = Annotated[int, msgspec.Meta(ge=1, le=10**8)]
Word = Annotated[str, msgspec.Meta(pattern=r"^[\w.:/\[\]@-]+$", max_length=200)]


class ClaudeOptions(Options, frozen=True, kw_only=True):
    """Options of `claude-code`; docs/backends/claude-code.md explains each."""

    model: Word | None = None
    max_tokens: Tokens | None = None
    context_tokens: Annotated[int, msgspec.Meta(ge=500)] | None = None
    window: Annotated[int, msgspec.Meta(ge=1000)] = 200_000
    instructions: str = ""
    key_env: Annotated[str, msgspec.Meta(min_length=1)] = KEY_ENV
    key_file: str | None = None
    base_url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^/\s]")] | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=32)] = 1
    stall_timeout: Duration = Duration(60)
    connect_timeout: Duration = Duration(30)
    pool: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    session: Literal["fresh", "kept"] = "fresh"
    max_questions: Count = 20
    max_age: Duration = Duration(1800)
    max_memory: ByteSize = ByteSize(800_000_000)
    tools: tuple[Literal["Read", "Grep", "Glob"], ...] = ()
    max_turns: Count | None = None
    user_settings: bool = False
    cli_path: str | None = None
    env: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether a process takes a second question."""
        return self.session == "kept"

    @property
    def size(self) -> int:
        """How many processes there are, in wait or at work: one more than can be at work."""
        return self.pool or self.concurrency + 1

    @property
    def turns(self) -> int:
        """How often the model may be called for one question: once, and for each use of a tool."""
        return self.max_turns or (TURNS_WITH_TOOLS if self.tools else 1)
