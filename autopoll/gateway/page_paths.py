"""Which paths are the page's."""

import re

LOGIN = "/desk/login"
_PATHS = re.compile(r"/|/desk/.*", re.DOTALL)


def is_page(path: str) -> bool:
    """Tell whether a path is the page's, which proves who asks by itself."""
    return _PATHS.fullmatch(path) is not None
