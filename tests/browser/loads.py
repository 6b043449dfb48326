"""The lab that is played: its configuration, and what its users' servers do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from enforcer.quantities import GIB

HOSTILE: Final = "<img src=x onerror=alert(1)>"

CONFIG: Final = f"""\
volumes_ro = ["/media/references", "/media/genomes"]

[machine]
reserved = {{ cpu = 2, memory = "8 GiB" }}

[resource_profiles.Small]
cpu_limit = 2
mem_limit = 8

[resource_profiles.Large]
cpu_limit = 10
mem_limit = 40
cpu_total = 16
mem_total = 100

[resource_profiles.Whole]
cpu_limit = 30
mem_limit = 100
admission = "queue"

[resource_profiles."{HOSTILE}"]
cpu_limit = 1
mem_limit = "1536 MiB"

[docker_profiles]
SingleUser = "quay.io/jupyterhub/singleuser:5"
DataScience = "quay.io/jupyter/datascience-notebook:latest"

[user_profiles.default]
allowed_resources = ["Small", "Large"]
allowed_docker = ["SingleUser", "DataScience"]
host_homedir_format_string = "/home/{{username}}"
max_preallocate = {{ cpu_guarantee = 1, mem_guarantee = 4 }}

[user_profiles.alice]
allowed_resources = ["Small", "Large", "Whole", "{HOSTILE}"]
max_preallocate = {{ cpu_guarantee = 24, mem_guarantee = 64 }}

[user_profiles.gina]
allowed_resources = ["Whole", "Small"]
max_preallocate = {{ cpu_guarantee = 30, mem_guarantee = 90 }}

[user_profiles.frank]
allowed_resources = ["Whole"]
max_preallocate = {{ cpu_guarantee = 30, mem_guarantee = 90 }}

[daemon]
tick_seconds = 1
"""


@dataclass(frozen=True, slots=True)
class Work:
    """What a server does at a time: cores, bytes, share of the time it is throttled, PSI some."""

    cpu: float
    memory: float
    throttled: float = 0.0
    waiting: float = 0.0


Load = Callable[[float], Work]


def wave(cpu: float, swing: float, memory: float, period: float = 240.0) -> Load:
    """Somebody who computes now and then."""
    return lambda at: Work(
        max(0.0, cpu + swing * math.sin(at / period * math.tau) + 0.15 * math.sin(at * 1.7)),
        memory * GIB * (1 + 0.05 * math.sin(at / 90)),
        waiting=0.03,
    )


def throttled(at: float) -> Work:
    """Somebody whose profile's quota is exhausted in the last five minutes."""
    busy = at % 600 > 200
    return Work(7.8 if busy else 2.5, 21 * GIB, 0.38 if busy else 0.0, 0.42 if busy else 0.04)


def growing(began: float) -> Load:
    """Somebody who fills their memory, and stays just below the limit."""
    return lambda at: Work(1.2, min(7.35, 2.2 + (at - began) * 0.006) * GIB, waiting=0.02)
