"""The HTTP API on the Unix socket: what is said (types), who may say it (peers), the server."""
