"""Who does what in the demo: five users, three profiles, and what somebody does behind our back.

Plain values and pure functions; the numbers that are promised stand in ``enforcer.toml`` here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from enforcer.api.types import PlacementReply
from enforcer.model import Claim
from enforcer.names import UnitName, cgroup_path
from enforcer.quantities import CORE, MIB, Bytes, Cpus

IMAGE: Final = "Notebook"
CGROUPS: Final = "/sys/fs/cgroup"

_GROW: Final = """\
import time
held = []
while True:
    held.append(b"x" * (8 << 20))
    time.sleep(0.25)
"""
_WORKING_SET: Final = """\
held = bytearray(b"x") * (240 << 20)
while True:
    for page in range(0, len(held), 4096):
        held[page] ^= 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One user: what they claim, what their container runs, and what it is there to show."""

    claim: Claim
    program: tuple[str, ...]
    shows: str

    @property
    def user(self) -> str:
        """Their name."""
        return self.claim.user

    @property
    def container(self) -> str:
        """What their container is called."""
        return f"demo-{self.user}"


def _spin(threads: int) -> tuple[str, ...]:
    loops = " ".join("while :; do :; done &" for _ in range(threads))
    return ("sh", "-c", f"{loops} wait")


ADA: Final = Part(
    claim=Claim(user="ada", profile="Small", image=IMAGE),
    program=_spin(2),
    shows="spins on two threads, is held to her own half core",
)
BOB: Final = Part(
    claim=Claim(user="bob", profile="Small", image=IMAGE),
    program=("python3", "-c", _GROW),
    shows="takes more and more memory, until his own limit stops him",
)
CAROL: Final = Part(
    claim=Claim(user="carol", profile="Large", image=IMAGE),
    program=_spin(4),
    shows="spins on four threads, shares her profile's one core with dave",
)
DAVE: Final = Part(
    claim=Claim(user="dave", profile="Large", image=IMAGE),
    program=_spin(1),
    shows="spins on one thread, is not starved by carol's four",
)
ERIN: Final = Part(
    claim=Claim(
        user="erin",
        profile="Guaranteed",
        image=IMAGE,
        cpu_guarantee=Cpus(CORE * 3 // 4),
        mem_guarantee=Bytes(320 * MIB),
    ),
    program=("python3", "-c", _WORKING_SET),
    shows="works through 240 MiB, with three quarters of a core and 320 MiB guaranteed",
)
CAST: Final = (ADA, BOB, CAROL, DAVE, ERIN)


def docker_run(part: Part, placement: PlacementReply) -> list[str]:
    """Return the words that start a container in its place, as the hub's spawner does."""
    words = ["docker", "run", "--detach", "--name", part.container]
    words += [f"--cgroup-parent={placement.cgroup_parent}"]
    words += [f"--label={key}={value}" for key, value in placement.labels.items()]
    words += [
        f"--cpus={placement.nano_cpus / 1e9:g}",
        f"--memory={placement.memory}",
        f"--memory-swap={placement.memory_swap}",
        f"--oom-score-adj={placement.oom_score_adj}",
    ]
    if placement.pids_limit is not None:
        words.append(f"--pids-limit={placement.pids_limit}")
    if placement.shm_size is not None:
        words.append(f"--shm-size={placement.shm_size}")
    # The guest's own programs, Python among them; and no network, which nobody here needs.
    words += [f"--volume={path}:{path}:ro" for path in placement.volumes_ro]
    words.append("--network=none")
    return [*words, placement.image, *part.program]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mischief:
    """Something done past the daemon: the words, and the kernel's file that it changes."""

    name: str
    words: tuple[str, ...]
    file: str


def mischief(unit: UnitName, scope: str, container: str) -> Sequence[Mischief]:
    """Return what an admin in a hurry, or a clever user, does to a lease.

    scope: the container's cgroup below the mount point.
    """
    leaf_file = f"{CGROUPS}/{cgroup_path(unit)}/memory.max"
    scope_file = f"{CGROUPS}/{scope}/memory.max"
    more = str(1024 * MIB)
    return (
        Mischief(
            name="a raw write",
            words=("sh", "-c", f"echo max > '{leaf_file}'"),
            file=leaf_file,
        ),
        Mischief(
            name="docker update",
            words=("docker", "update", "--memory", more, "--memory-swap", more, container),
            file=scope_file,
        ),
        Mischief(
            name="systemctl set-property",
            words=("systemctl", "set-property", "--runtime", unit, "MemoryMax=infinity"),
            file=leaf_file,
        ),
    )
