"""The page: what a home is up to, made on the server and looked at in a browser."""
