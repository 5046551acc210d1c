"""Backends: the warm instances that answer, one module each, found by entry point."""
