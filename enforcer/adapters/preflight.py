"""What a machine must be like for limits and guarantees to hold, judged before the daemon starts.

`read_ground` looks, `judge` decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from enforcer.adapters.cgroupreader import slurp, slurp_all

OLDEST_KERNEL: Final = (5, 19)
"""The first with memory.peak; all older ones are also without the fixes that matter here."""

_NEEDED: Final = ("cpu", "memory", "pids")
_USEFUL: Final = {
    "io": "io weights are not enforced",
    "cpuset": "whole cores cannot be the global cap",
}
_DBUS_SOCKET: Final = "dbus/system_bus_socket"
_FS_TYPE: Final = "cgroup2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What was found. `mount` and `options` are of the file system at `root`, empty: no mount."""

    root: str
    mount_type: str
    options: frozenset[str]
    kernel: str
    """``6.12.57+deb13-cloud-amd64``."""
    controllers: frozenset[str]
    pressure: bool
    init: str
    """The command name of process 1."""
    bus: bool
    """There is a D-Bus system bus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is not as it must be (fatal) or as it should be."""

    code: str
    message: str
    hint: str
    fatal: bool = True


def preflight(
    root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc"), run: Path = Path("/run")
) -> tuple[Problem, ...]:
    """Return everything that is wrong with this machine, the fatal problems first."""
    return judge(read_ground(root, proc, run))


def read_ground(root: Path, proc: Path, run: Path) -> Ground:
    """Look at the machine. What cannot be read counts as not there."""
    mount_type, options = find_mount(slurp_all(f"{proc}/self/mountinfo").decode(), str(root))
    return Ground(
        root=str(root),
        mount_type=mount_type,
        options=options,
        kernel=slurp(f"{proc}/sys/kernel/osrelease").decode().strip(),
        controllers=frozenset(slurp(f"{root}/cgroup.controllers").decode().split()),
        pressure=slurp(f"{proc}/pressure/memory") != b"",
        init=slurp(f"{proc}/1/comm").decode().strip(),
        bus=(run / _DBUS_SOCKET).is_socket(),
    )


def find_mount(mountinfo: str, place: str) -> tuple[str, frozenset[str]]:
    """Return the type and all options of what is mounted at `place` (proc_pid_mountinfo(5))."""
    found: tuple[str, frozenset[str]] = ("", frozenset())
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        fields, rest = mount.split(), source.split()
        if len(fields) >= 6 and len(rest) >= 3 and fields[4] == place:
            # the last one is on top
            found = rest[0], frozenset([*fields[5].split(","), *rest[2].split(",")])
    return found


def judge(ground: Ground) -> tuple[Problem, ...]:
    """Say what is wrong; nothing if limits and guarantees will hold."""
    problems = (*_judge_init(ground), *_judge_kernel(ground), *_judge_cgroups(ground))
    return tuple(sorted(problems, key=lambda problem: not problem.fatal))


def _judge_init(ground: Ground) -> Iterator[Problem]:
    if ground.init != "systemd":
        yield Problem(
            code="preflight.systemd",
            message=f"process 1 is {ground.init or 'unknown'}, not systemd",
            hint="run the enforcer on a host whose init is systemd, not in a container",
        )
    elif not ground.bus:
        yield Problem(
            code="preflight.dbus",
            message="there is no D-Bus system bus",
            hint="apt install dbus, then systemctl start dbus.socket",
        )


def _judge_kernel(ground: Ground) -> Iterator[Problem]:
    version = parse_kernel_version(ground.kernel)
    oldest = ".".join(map(str, OLDEST_KERNEL))
    if version is None or version < OLDEST_KERNEL:
        yield Problem(
            code="preflight.kernel",
            message=f"the kernel is {ground.kernel or 'unknown'}, older than {oldest}",
            hint=f"boot a kernel of {oldest} or later (Debian 12, Ubuntu 22.04 with HWE, or later)",
        )
    if not ground.pressure:
        yield Problem(
            code="preflight.psi",
            message="the kernel tells no pressure (PSI)",
            hint="add psi=1 to the kernel's command line and reboot",
            fatal=False,
        )


def _judge_cgroups(ground: Ground) -> Iterator[Problem]:
    if ground.mount_type != _FS_TYPE:
        yield Problem(
            code="preflight.cgroup-v2",
            message=f"{ground.root} is {ground.mount_type or 'not mounted'}, not cgroup v2 alone",
            hint="add systemd.unified_cgroup_hierarchy=1 to the kernel's command line and reboot",
        )
        return
    if "memory_recursiveprot" not in ground.options:
        yield Problem(
            code="preflight.recursiveprot",
            message=f"{ground.root} is mounted without memory_recursiveprot, "
            "so memory guarantees do not reach the containers",
            hint=f"mount -o remount,nsdelegate,memory_recursiveprot {ground.root} "
            "(systemd 247 and later do so at boot)",
        )
    for controller in _NEEDED:
        if controller not in ground.controllers:
            yield Problem(
                code="preflight.controller",
                message=f"the {controller} controller is missing",
                hint=_controller_hint(controller),
            )
    for controller, consequence in _USEFUL.items():
        if controller not in ground.controllers:
            yield Problem(
                code="preflight.controller",
                message=f"the {controller} controller is missing: {consequence}",
                hint=_controller_hint(controller),
                fatal=False,
            )


def parse_kernel_version(release: str) -> tuple[int, int] | None:
    """Return major and minor of uname's release; None if there are none."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else None


def _controller_hint(controller: str) -> str:
    option = " (cgroup_enable=memory on some boards)" if controller == "memory" else ""
    return (
        f"see that the kernel's command line does not disable it with "
        f"cgroup_disable={controller}{option}, and that no cgroup v1 mount holds it"
    )
