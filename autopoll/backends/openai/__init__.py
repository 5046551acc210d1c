"""Models behind chat completions."""
