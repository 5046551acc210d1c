"""What the shared parts need of an engine's connection, and in which words it differs."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

Row = tuple[Any, ...]
Values = Sequence[Any] | Mapping[str, Any]


class Dialect(NamedTuple):
    """The words of one engine; `{}` stands for a column or an expression.

    Statements have parameters as `?` or `:name`. JSON is read out of text that need not be JSON.
    """

    stored_text: str  # text of a foreign program in a form that can always be read
    json_text: str  # a field of the first, named by the second, as text or NULL
    json_integer: str  # the same as a number
    numbers: str  # a SELECT of the numbers in a parameter, which is a JSON array
    question: str  # of message m: what is needed to answer it when it is over :max bytes, else all
    contains: str  # whether the first, a text, contains the second
    created: str  # of conversation c: by what those of one moment are in their order
    ordered_join: str  # a join that is to begin with the table on its left
    answer_mark: tuple[str, str]  # column and value of an answer: nobody need look at it
    unlocked: str  # leaves out of a SELECT the rows that another transaction is changing
    for_update: str  # keeps the rows of d that a SELECT returns from changing until the commit


class Database(Protocol):
    """One connection of an engine. Its errors are BridgeError and those below it."""

    @property
    def dialect(self) -> Dialect:
        """The engine's words."""

    @property
    def clock(self) -> Callable[[], int]:
        """Return the time of which all deadlines are made; in a transaction when that began."""

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """Run a statement and return all its rows."""

    def many(self, sql: str, rows: Sequence[Values]) -> None:
        """Run a statement once for each row of values."""

    def together(self) -> AbstractContextManager[None]:
        """Send what `many` runs in the block at once, where sending takes time."""

    def each(self, sql: str, values: Values = ()) -> Generator[Row, None, None]:
        """Yield rows one by one, because all at once need not fit into memory."""

    def insert(self, sql: str, rows: Sequence[Values]) -> list[int]:
        """Run an INSERT … RETURNING id for each row of values; return the numbers in their order.

        They are fewer where another program's trigger leaves a row out.
        """

    def decided(self, table: str) -> int:
        """Return the number up to which every row of a table is committed, or will never be."""

    def writing(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """Run the block in one transaction that is committed at its end or leaves no trace.

        A commit that is not `durable` survives a kill of this process, but not a power cut.
        """

    def lock_conversations(
        self, names: Collection[str] = (), deliveries: Collection[int] = ()
    ) -> None:
        """Wait until no other transaction writes to these conversations, and keep others out.

        Of `deliveries`, those that wait for each other in a conversation name it. For a transaction
        that numbers messages or changes the order in a lane: first of all, once, and until its
        commit; what it reads then is as others have left it.
        """

    def lock_key(self, name: str) -> None:
        """Wait until no other transaction holds this name, and hold it until the commit."""

    def try_lock(self, name: str) -> bool:
        """Hold this name until the commit, unless another transaction does; return whether."""
