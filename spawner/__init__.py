"""The hub's side: a DockerSpawner that leaves every limit to the enforcer, and the hub's pages.

The least that a ``jupyterhub_config.py`` needs for it::

    c.JupyterHub.spawner_class = "enforcer"
    c.JupyterHub.hub_ip = "172.17.0.1"            # docker0's: the containers call the hub there
    c.JupyterHub.cleanup_servers = False          # servers outlive the hub
    c.JupyterHub.template_paths = ["…/spawner/pages/templates"]

The hub's user has to be one of ``hub_users`` in ``enforcer.toml``, and a member of the group
docker. Everything else (profiles, images, homes, shared directories, who may have what) is in
``enforcer.toml``; `spawner.settings.HubSettings` has what the hub may say beside it.
DockerSpawner's own settings hold, but for those that would be limits: ``extra_host_config`` cannot
raise one.

What a user asks for, in the form, as ``?opt-cpu_limit=2`` in a link, or as the JSON body of
``POST /users/:name/server``: ``profile`` and ``image`` by name, ``cpu_limit`` and ``cpu_guarantee``
in cores, ``mem_limit`` and ``mem_guarantee`` in GiB, the four as numbers. All may be left out.

When memory runs out in a container, the daemon has told the kernel to take a kernel's process
before the notebook server's (it sets their oom_score_adj), so nothing has to be done about that
here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spawner.spawner import DockerSystemProfileSpawner

__all__ = ["DockerSystemProfileSpawner"]


def __getattr__(name: str) -> object:
    """Import the spawner when it is asked for: the pages' service does without it and Docker."""
    if name == "DockerSystemProfileSpawner":
        from spawner.spawner import DockerSystemProfileSpawner  # noqa: PLC0415 - see above

        return DockerSystemProfileSpawner
    raise AttributeError(name)
