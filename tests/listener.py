"""A `Report` for tests: it keeps what a backend tells of its work."""


class Listener:
    """Keeps the notes, and the pieces of the answer, in their order."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.pieces: list[str] = []

    def __call__(self, note: str) -> None:
        self.notes.append(note)

    def piece(self, text: str) -> None:
        self.pieces.append(text)
