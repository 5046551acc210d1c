"""Where the time of a question goes, from `ask` to the answer."""
