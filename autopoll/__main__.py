"""The program `autopoll`, also as `python -m autopoll`: a way to end for Ctrl-C at any moment.

While it starts and when it ends no garbage is collected: what was imported is none, and looking at
all of it took a sixth of the time of `ask`. `cli.Commands` has it collected in between.
"""

import gc
import sys

INTERRUPTED = 130  # Exit.INTERRUPTED, which may not be imported yet


def main() -> int:
    """Import the command line and run it; return its exit code."""
    gc.disable()
    try:
        from autopoll.cli import main as run

        return run()
    except KeyboardInterrupt:  # in the imports, before there is anything to say
        return INTERRUPTED
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
