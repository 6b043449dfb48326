"""The Enforcer: holds dockerd and every user's container to their limits and guarantees."""

__version__ = "0.1.0"
