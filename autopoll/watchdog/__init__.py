"""The process that tells hung from busy."""
