"""A configuration with users and groups that differ, and what one of its users may have."""

from __future__ import annotations

from enforcer import policy
from enforcer.model import Config, Rights
from tests.unit.configs import VALID, parse

LAB = (
    VALID
    + """
[resource_profiles.Extreme]
cpu_limit = 30
mem_limit = 80

[user_profiles.memo]
allowed_resources = ["Large"]
max_preallocate = { cpu_guarantee = 2 }
host_homedir_format_string = "/home/{username}"

[user_profiles.nobody]
allowed_resources = []
allowed_docker = []

[group_profiles.students]
allowed_resources = ["Tiny"]
cpu_total = 2
servers_max = 1
admission = "scale"
host_homedir_format_string = "/srv/students/{username}"

[group_profiles.ml]
allowed_resources = ["Extreme", "Tiny"]
max_preallocate.mem_guarantee = 20
servers_max = 4
admission = "queue"
host_homedir_format_string = "/srv/ml/{username}"

[group_profiles.strict]
admission = "refuse"
max_preallocate.mem_guarantee = 30
"""
)


def rights(user: str = "alice", *groups: str, config: Config | None = None) -> Rights:
    return policy.rights(config or parse(LAB), user, groups, ())
