"""The shape of the file, as pydantic models: which keys there are and of which kind.

Amounts stay as written: what a percentage is of, only the whole document tells. None is what is
not there, or was taken out because something is wrong with it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from enforcer.model import AdmissionMode

Amount = object
"""A number or a text, parsed when its whole is known."""

# From text; strict mode would ask for the enum itself.
Mode = Annotated[AdmissionMode, Field(strict=False)]
# The kernel has no more process ids (PID_MAX_LIMIT).
Tasks = Annotated[int, Field(ge=1, le=4_194_304)]
Names = Annotated[list[str | None], Field(max_length=1000)]


class Section(BaseModel):
    """A table of the file: unknown keys are mistakes, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Share(Section):
    """An amount of CPU and of memory."""

    cpu: Amount = None
    memory: Amount = None


class Machine(Section):
    """``[machine]``: what is left to the host, or what jupyter.slice may have."""

    reserved: Share | None = None
    limit: Share | None = None
    swap: Amount = None
    tasks: Tasks | None = None
    whole_cores: bool | None = None


class Engine(Section):
    """``[engine]``: the floor of dockerd and containerd."""

    cpu: Amount = None
    memory: Amount = None
    memory_per_container: Amount = None


class Adopted(Section):
    """``[adopted]``: the containers nobody asked for, together."""

    cpu_limit: Amount = None
    mem_limit: Amount = None
    swap_limit: Amount = None
    tasks_limit: Tasks | None = None


class Profile(Section):
    """``[resource_profiles.<Name>]``."""

    cpu_limit: Amount = None
    mem_limit: Amount = None
    swap_limit: Amount = None
    mem_throttle: Amount = None
    tasks_limit: Tasks | None = None
    io_weight: Annotated[int, Field(ge=1, le=10_000)] | None = None
    shm_size: Amount = None
    cpu_total: Amount = None
    mem_total: Amount = None
    tasks_total: Tasks | None = None
    admission: Mode | None = None


class Preallocate(Section):
    """``max_preallocate``: the most that may be guaranteed to one user, over all their leases."""

    cpu_guarantee: Amount = None
    mem_guarantee: Amount = None


class User(Section):
    """``[user_profiles.<user>]`` and ``[group_profiles.<group>]``."""

    allowed_resources: Names | None = None
    allowed_docker: Names | None = None
    host_homedir_format_string: str | None = None
    max_preallocate: Preallocate | None = None
    cpu_total: Amount = None
    mem_total: Amount = None
    servers_max: Annotated[int, Field(ge=1, le=1000)] | None = None
    admission: Mode | None = None


class Admission(Section):
    """``[admission]``."""

    mode: Mode | None = None
    queue_length: Annotated[int, Field(ge=1, le=10_000)] | None = None
    queue_seconds: Annotated[float, Field(ge=1, le=30 * 86400)] | None = None
    claim_seconds: Annotated[float, Field(ge=5, le=86400)] | None = None
    release_seconds: Annotated[float, Field(ge=0, le=86400)] | None = None


class Daemon(Section):
    """``[daemon]``."""

    hub_users: Names | None = None
    metrics: str | None = None
    tick_seconds: Annotated[float, Field(ge=0.2, le=60)] | None = None
    history_seconds: Annotated[float, Field(ge=0, le=86400)] | None = None
    receipts_kept: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    resize_grace_seconds: Annotated[float, Field(ge=0, le=7 * 86400)] | None = None


class Document(Section):
    """The whole file."""

    volumes_ro: Names | None = None
    machine: Machine | None = None
    engine: Engine | None = None
    adopted: Adopted | None = None
    resource_profiles: dict[str, Profile | None] | None = None
    docker_profiles: dict[str, str | None] | None = None
    user_profiles: dict[str, User | None] | None = None
    group_profiles: dict[str, User | None] | None = None
    admission: Admission | None = None
    daemon: Daemon | None = None
