"""A machine with the hub in it as on a real host, and what a test does with it."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import docker

from enforcer import machine
from enforcer.api.types import LeaseReply
from enforcer.client import Client
from enforcer.demo import stage
from enforcer.quantities import CORE
from tests.machine.hub.web import Browser, Rest, ask_health
from tests.machine.lab import CHECKOUT, SOCKET, Lab, until

PASSWORD: Final = "a-password-for-tests"
TOKEN: Final = "0123456789abcdef-the-labs-own"
"""The same stand in the files beside this one."""

PEOPLE: Final = tuple(f"u{number:02}" for number in range(1, 13))
USER_LABEL: Final = "io.jupyter.enforcer.user"
SERVER_LABEL: Final = "io.jupyter.enforcer.server"

SOURCE: Final = machine.Source(
    checkout=CHECKOUT,
    parts=(
        "tests/machine/hub/enforcer.toml",
        "tests/machine/hub/hub.conf",
        "tests/machine/hub/inside",
    ),
    setup=("sh tests/machine/hub/inside/arrange.sh",),
    kind="hub-lab",
    over=stage.SOURCE,
)

_UP_SECONDS: Final = 400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the kernel holds a container to, at its leaf and at its own scope: cores, bytes, tasks.

    cgroup: the leaf's name.
    """

    cgroup: str
    cores: float | None
    memory: int | None
    swap: int | None
    tasks: int | None
    floor: int
    scope_cores: float | None
    scope_memory: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubLab(Lab):
    """One clean machine with the hub up and nobody's server. engine: the guest's dockerd."""

    api: Rest
    engine: docker.APIClient

    @property
    def address(self) -> str:
        """The hub's, here."""
        return self.api.address

    def browser(self, user: str) -> Browser:
        """Log in as a user."""
        browser = Browser(self.address)
        answer = browser.log_in(user, PASSWORD)
        assert answer.status == 200, answer
        assert "/hub/login" not in answer.address, answer.text
        return browser

    def started(self, user: str, options: object = None, server: str = "") -> LeaseReply:
        """Have a server started by REST, and wait until it is up; its lease."""
        answer = self.api.start(user, options, server)
        assert answer.status in {201, 202}, answer
        assert self.api.wait(user, server, seconds=_UP_SECONDS), self.api.told(user, server)
        return self.lease(user, server)

    def stopped(self, user: str, server: str = "") -> None:
        """Have it stopped, and wait until it is gone."""
        answer = self.api.stop(user, server)
        assert answer.status in {202, 204}, answer
        self.api.wait_gone(user, server)

    def lease(self, user: str, server: str = "") -> LeaseReply:
        """The one lease of a server."""
        (lease,) = (one for one in self.client.leases(user) if one.server == server)
        return lease

    def containers(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Every container of a user's server, running or not, as Docker shows it."""
        found = {}
        for one in self.engine.containers(all=True, filters={"label": USER_LABEL}):
            shown = self.engine.inspect_container(one["Id"])
            labels = shown["Config"]["Labels"]
            key = (labels[USER_LABEL], labels[SERVER_LABEL])
            assert key not in found, f"two containers of {key}"
            found[key] = shown
        return found

    def container(self, user: str, server: str = "") -> Mapping[str, Any]:
        """One of them."""
        return self.containers()[user, server]

    def limits(self, container: Mapping[str, Any]) -> Limits:
        """Read what the kernel holds a running container to."""
        script = (
            f"cd /sys/fs/cgroup$(cut -d: -f3- /proc/{container['State']['Pid']}/cgroup)/.."
            " && basename $(pwd -P)"
            " && cat cpu.max memory.max memory.swap.max pids.max memory.min"
            f" docker-{container['Id']}.scope/cpu.max docker-{container['Id']}.scope/memory.max"
        )
        name, cpu, *numbers, floor, scope_cpu, scope_memory = self.guest.run(
            script
        ).stdout.splitlines()
        memory, swap, tasks = map(_number, numbers)
        return Limits(
            cgroup=name,
            cores=_cores(cpu),
            memory=memory,
            swap=swap,
            tasks=tasks,
            floor=int(floor),
            scope_cores=_cores(scope_cpu),
            scope_memory=_number(scope_memory),
        )

    def check_kernel(self, lease: LeaseReply) -> Limits:
        """Compare the kernel's files with a lease, and the lease with its profile."""
        found = self.limits(self.container(lease.user, lease.server))
        assert found.cgroup == lease.unit
        assert found.cores is not None
        assert abs(found.cores - lease.cpu_limit) < 0.011  # a quota is a whole hundredth
        assert found.memory == lease.mem_limit
        assert found.floor == lease.mem_guarantee
        assert found.tasks is not None
        assert found.scope_cores is not None
        assert found.scope_cores <= found.cores + 0.011
        assert found.scope_memory is not None
        assert found.scope_memory <= found.memory
        profiles = {one.name: one for one in self.client.catalogue(lease.user).profiles}
        profile = profiles[lease.profile]
        assert lease.cpu_limit <= profile.cpu_limit + 1 / CORE
        assert lease.mem_limit <= profile.mem_limit
        return found

    def check_everything(self) -> None:
        """Every container has a lease and its limits, every lease a container; nothing is over."""
        leases = {(one.user, one.server): one for one in self.client.leases()}
        containers = self.containers()
        assert leases.keys() == containers.keys()
        for lease in leases.values():
            self.check_kernel(lease)

    def check_nothing_of(self, user: str) -> None:
        """There is neither lease nor container of a user's."""
        assert not self.client.leases(user)
        assert [key for key in self.containers() if key[0] == user] == []

    def wait_for_hub(self) -> float:
        """Wait until the hub answers; the seconds it took."""
        return until(lambda: ask_health(self.address), _UP_SECONDS)

    def hang_up(self) -> None:
        """Leave no connection open; the next call opens another."""
        self.client.close()
        self.engine.close()

    def said(self) -> str:
        """What the hub said, for a failed test's message."""
        shown = self.guest.run("journalctl --no-pager -u jupyterhub -n 80", check=False)
        return shown.stdout


@contextmanager
def open_hub(layer: machine.Layer) -> Iterator[HubLab]:
    """Start a clean machine, and bring the daemon's, Docker's and the hub's doors here."""
    with (
        tempfile.TemporaryDirectory(prefix="enforcer-lab-", dir="/tmp") as folder,
        machine.start(layer) as guest,
    ):
        local, dockerd = Path(folder) / "enforcer.sock", Path(folder) / "docker.sock"
        guest.forward_socket(SOCKET, local)
        guest.forward_socket("/run/docker.sock", dockerd)
        port = _free_port()
        guest.forward_loopback(stage.HUB_PORT, port)
        engine = docker.APIClient(base_url=f"unix://{dockerd}", version="auto", timeout=180)
        with Client(str(local)) as client:
            try:
                yield HubLab(
                    guest=guest,
                    client=client,
                    api=Rest(address=f"http://127.0.0.1:{port}", token=TOKEN),
                    engine=engine,
                )
            finally:
                engine.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _number(text: str) -> int | None:
    return None if text == "max" else int(text)


def _cores(text: str) -> float | None:
    quota, period = text.split()
    return None if quota == "max" else int(quota) / int(period)
