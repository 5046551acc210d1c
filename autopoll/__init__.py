"""autopoll keeps warm AI agents answering a message bridge around the clock."""

__version__ = "0.1.0"
