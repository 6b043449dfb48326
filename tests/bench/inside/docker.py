"""`docker run` with a placement against without; a sampling pass against `docker stats`."""

from __future__ import annotations

import resource
import statistics
import time
from typing import Any

from enforcer.adapters.cgroupfs import CgroupFs
from enforcer.names import ENGINE, cgroup_path
from tests.bench.inside.common import (
    IMAGE,
    Row,
    Socket,
    cpu_of_slice,
    report,
    run,
    small,
    wait_for,
)

_ROUNDS = 9
_CONTAINERS = 16
_PASSES = 60
_STATS = 3
_CALM_SECONDS = 3.0


def main() -> None:
    """Time runs in turn, then fill the machine with containers and watch them both ways."""
    api = Socket()
    runs = _runs(api)
    leases = [api.ask("POST", "/v1/leases", _claim(f"user{n}")) for n in range(_CONTAINERS)]
    for lease in leases:
        run(*_docker(lease), "--detach", IMAGE, "/busybox/sleep", "1000000")
    wait_for(lambda: len(CgroupFs().scopes()) == _CONTAINERS)
    time.sleep(5 * _CALM_SECONDS)
    stats = _stats()
    sampling = _sampling()
    report(
        [
            runs,
            Row(
                what=f"sampling pass of {_CONTAINERS} containers against docker stats",
                value=sampling * 1e3,
                base=stats * 1e3,
                unit="ms CPU",
                least=20.0,
                note="leaves, the slices above them, scopes; dockerd's CPU counted in",
            ),
        ]
    )


def _runs(api: Socket) -> Row:
    """Alternate, so that what else goes on meets both alike."""
    placed, plain = [], []
    for number in range(_ROUNDS):
        plain.append(_timed_run(("docker", "run", "--network=none", *_LIKE)))
        begin = time.perf_counter()
        lease = api.ask("POST", "/v1/leases", _claim("runner", f"s{number}"))
        claimed = time.perf_counter() - begin
        placed.append(claimed + _timed_run(_docker(lease)))
        api.ask("DELETE", f"/v1/leases/{lease['id']}")
        time.sleep(_CALM_SECONDS)
    return Row(
        what="claim and docker run against docker run",
        value=statistics.median(placed),
        base=statistics.median(plain),
        unit="s",
        most=1.1,
        note=f"medians of {_ROUNDS} in turn",
    )


_LIKE = ("--cpus=0.5", "--memory=32m", "--memory-swap=32m", "--label=bench=1")


def _claim(user: str, server: str = "") -> dict[str, object]:
    """Ask for enough that runc, which is in there at first, is neither killed nor held back."""
    return small(user, server, cpu_limit=0.5, mem_limit="32 MiB")


def _docker(lease: Any) -> tuple[str, ...]:  # noqa: ANN401  # JSON
    """Return docker's words up to the image, as a spawner says them."""
    placement = lease["placement"]
    labels = [f"--label={key}={value}" for key, value in placement["labels"].items()]
    parent = f"--cgroup-parent={placement['cgroup_parent']}"
    return ("docker", "run", "--network=none", *_LIKE[:3], *labels, parent)


def _timed_run(words: tuple[str, ...]) -> float:
    """Time until the container runs; removing it is nobody's promise."""
    begin = time.perf_counter()
    container = run(*words, "--detach", IMAGE, "/busybox/sleep", "1000000")
    seconds = time.perf_counter() - begin
    run("docker", "rm", "--force", container)
    return seconds


def _stats() -> float:
    """Return the CPU seconds of one `docker stats --no-stream`: the command's and the engine's."""
    engine = cgroup_path(ENGINE)
    idle_seconds = 10.0
    before = cpu_of_slice(engine)
    time.sleep(idle_seconds)
    idle = (cpu_of_slice(engine) - before) / idle_seconds
    begin, before = time.perf_counter(), cpu_of_slice(engine) + _children()
    for _ in range(_STATS):
        run("docker", "stats", "--no-stream")
    spent = cpu_of_slice(engine) + _children() - before
    return (spent - idle * (time.perf_counter() - begin)) / _STATS


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _sampling() -> float:
    kernel = CgroupFs()

    def once() -> None:
        kernel.slices()
        for path in kernel.scopes().values():
            kernel.scope(path)
        kernel.host()

    once()
    begin = time.process_time()
    for _ in range(_PASSES):
        once()
        time.sleep(0.05)
    return (time.process_time() - begin) / _PASSES


if __name__ == "__main__":
    main()
