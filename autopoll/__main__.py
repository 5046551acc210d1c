"""`python -m autopoll` is the command line, whether or not its script is on the PATH."""

import sys

from autopoll.cli import main

sys.exit(main())
