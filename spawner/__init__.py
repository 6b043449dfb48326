"""The hub's side: a DockerSpawner that leaves every limit to the enforcer, and the hub's pages."""
