"""The process that holds one warm instance."""
