"""The echo servers, each a script of its own."""
