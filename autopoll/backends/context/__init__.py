"""Shared code for the context files: reading, cutting, searching, citing."""
