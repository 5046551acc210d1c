"""The program `autopoll`, also as `python -m autopoll`: a way to end for Ctrl-C at any moment."""

import sys

INTERRUPTED = 130  # Exit.INTERRUPTED, which may not be imported yet


def main() -> int:
    """Import the command line and run it; return its exit code."""
    try:
        from autopoll.cli import main as run

        return run()
    except KeyboardInterrupt:  # in the imports, before there is anything to say
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
