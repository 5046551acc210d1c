"""Shared code of backends that reach a model over HTTP."""
