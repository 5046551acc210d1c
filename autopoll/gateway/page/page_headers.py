"""The headers of every answer of the page: nothing from elsewhere, nothing inline, nothing kept."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer, by which a browser hides the origin of a form, too.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
PRIVATE = {"Cache-Control": "no-store"}
ASSET = {"Cache-Control": "no-cache"}  # asked for again each time, and mostly not sent
