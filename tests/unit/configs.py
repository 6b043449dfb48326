"""Configurations for tests: a small valid one, and a strategy for any valid one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from enforcer.config import parse_config
from enforcer.model import Capacity, Config
from enforcer.quantities import GIB, Bytes

CAPACITY = Capacity(cores=40, memory=Bytes(128 * GIB), swap=Bytes(8 * GIB))

VALID = """\
volumes_ro = ["/media/references"]

[resource_profiles.Tiny]
cpu_limit = 1
mem_limit = 2

[resource_profiles.Large]
cpu_limit = 10
mem_limit = "40 GiB"

[docker_profiles]
SingleUser = "quay.io/jupyterhub/singleuser:main"
DataScience = "quay.io/jupyter/datascience-notebook:latest"

[user_profiles.default]
allowed_resources = ["Tiny", "Large"]
allowed_docker = ["SingleUser", "DataScience"]
host_homedir_format_string = "/media/daten/{username}"
max_preallocate = { cpu_guarantee = 5, mem_guarantee = 10 }
"""


def parse(text: str = VALID, capacity: Capacity = CAPACITY) -> Config:
    """Parse it on a machine of 40 cores and 128 GiB."""
    return parse_config(text, capacity)


def toml(value: object) -> str:
    """Write a value as TOML; a table inline."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return quote(value)
        case list():
            return f"[{', '.join(toml(one) for one in value)}]"
        case dict():
            return f"{{ {', '.join(f'{quote(key)} = {toml(one)}' for key, one in value.items())} }}"
        case _:
            raise TypeError(value)


def quote(text: str) -> str:
    """Write a basic string, what TOML does not allow in it by number."""
    plain = (
        one if one.isprintable() and one not in '"\\' else f"\\U{ord(one):08x}" for one in text
    )
    return f'"{"".join(plain)}"'


def document(tree: Mapping[str, Any]) -> str:
    """Write a whole document, each top-level key inline."""
    return "".join(f"{quote(key)} = {toml(value)}\n" for key, value in tree.items())


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
MODES = st.sampled_from(["scale", "refuse", "queue"])


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """Draw any valid document for the machine above (its workload has more than 36 cores)."""
    profiles = {
        name: draw(profile()) for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    }
    images = dict.fromkeys(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)), "a/b:c")
    most_cpu = max(one["cpu_limit"] for one in profiles.values())
    most_memory = max(one["mem_limit"] for one in profiles.values())
    entry = st.fixed_dictionaries(
        {},
        optional={
            "allowed_resources": st.lists(st.sampled_from(list(profiles)), unique=True),
            "allowed_docker": st.lists(st.sampled_from(list(images)), unique=True),
            "host_homedir_format_string": st.just("/home/{username}"),
            "max_preallocate": st.fixed_dictionaries(
                {}, optional={"cpu_guarantee": st.integers(0, 36), "mem_guarantee": st.just("9%")}
            ),
            "cpu_total": st.integers(most_cpu, 36),
            "mem_total": st.integers(most_memory, 110),
            "servers_max": st.integers(1, 9),
            "admission": MODES,
        },
    )
    default = draw(entry) | {"allowed_resources": [*profiles], "allowed_docker": [*images]}
    tree: dict[str, Any] = {
        "resource_profiles": profiles,
        "docker_profiles": images,
        "user_profiles": draw(st.dictionaries(NAMES, entry, max_size=3)) | {"default": default},
        "group_profiles": draw(st.dictionaries(NAMES, entry, max_size=3)),
        "admission": draw(st.fixed_dictionaries({}, optional={"mode": MODES})),
    }
    if draw(st.booleans()):
        tree["machine"] = {"reserved": {"cpu": draw(st.integers(1, 2)), "memory": "10%"}}
    return tree


@st.composite
def profile(draw: st.DrawFn) -> dict[str, Any]:
    """Draw one profile."""
    cpu, memory = draw(st.integers(1, 30)), draw(st.integers(2, 100))
    return {"cpu_limit": cpu, "mem_limit": memory} | draw(
        st.fixed_dictionaries(
            {},
            optional={
                "swap_limit": st.integers(0, 4),
                "mem_throttle": st.just("90%"),
                "tasks_limit": st.integers(1, 5000),
                "tasks_total": st.integers(5000, 9000),
                "io_weight": st.integers(1, 10_000),
                "shm_size": st.just(1),
                "cpu_total": st.integers(cpu, 36),
                "mem_total": st.integers(memory, 110),
                "admission": MODES,
            },
        )
    )
