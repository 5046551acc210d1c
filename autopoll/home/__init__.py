"""The folder of one installation, and what lies in it."""
