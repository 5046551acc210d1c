"""Makes what passes for the Claude Code CLI; tests/data/fake_claude.py is what it runs."""

import shlex
import sys
from pathlib import Path

FAKE = Path(__file__).parent / "data" / "fake_claude.py"


def fake_cli(folder: Path, mood: str = "") -> Path:
    """Return the path of one that behaves as the mood says when it starts."""
    program = folder / "claude"
    words = [sys.executable, "-IS", str(FAKE), str(program)]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    program.chmod(0o755)
    set_mood(program, mood)
    return program


def set_mood(program: Path, mood: str) -> None:
    program.with_name("claude.mood").write_text(mood)
