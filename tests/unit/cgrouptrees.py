"""Cgroup trees on disk, declared as nested literals: a dict is a directory, a string a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from enforcer.names import ADOPTED, ENGINE, ROOT, WORKLOAD, UnitName

LEAF_FILES = {
    "cgroup.events": "populated 1\nfrozen 0\n",
    "cgroup.procs": "",
    "cpu.max": "150000 100000\n",
    "cpu.weight": "300\n",
    "cpu.stat": (
        "usage_usec 5000\nuser_usec 4000\nsystem_usec 1000\nnice_usec 0\n"
        "nr_periods 20\nnr_throttled 3\nthrottled_usec 700\nnr_bursts 0\nburst_usec 0\n"
    ),
    "cpu.pressure": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=111\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=11\n"
    ),
    "memory.min": "4096\n",
    "memory.high": "max\n",
    "memory.max": "1073741824\n",
    "memory.swap.max": "0\n",
    "memory.current": "40960\n",
    "memory.peak": "81920\n",
    "memory.swap.current": "8192\n",
    "memory.stat": "anon 30000\nfile 10960\ninactive_anon 0\ninactive_file 4096\nslab 9\n",
    "memory.events": "low 0\nhigh 5\nmax 6\noom 2\noom_kill 1\noom_group_kill 0\n",
    "memory.events.local": "low 0\nhigh 4\nmax 6\noom 1\noom_kill 1\noom_group_kill 0\n",
    "memory.pressure": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=222\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=22\n"
    ),
    "io.pressure": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=333\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=33\n"
    ),
    "pids.max": "100\n",
    "pids.current": "7\n",
    "pids.events": "max 9\n",
    "pids.events.local": "max 8\n",
    "io.weight": "default 200\n8:0 300\n",
    "cpuset.cpus": "2-3\n",
}

ID = "0123456789abcdef" * 4
OTHER_ID = "fedcba9876543210" * 4
SMALL = UnitName("jupyter-workload-small.slice")
A = UnitName("jupyter-a.slice")
ALICE = UnitName("jupyter-workload-small-alice.slice")
LEAF = UnitName("jupyter-workload-small-alice-default.slice")
ALICE_PATH = f"{ROOT}/{WORKLOAD}/{SMALL}/{ALICE}"
LEAF_PATH = f"{ALICE_PATH}/{LEAF}"
SCOPE_PATH = f"{LEAF_PATH}/docker-{ID}.scope"

TREE: dict[str, object] = {
    "cpu.stat": "usage_usec 9000\nuser_usec 8000\nsystem_usec 1000\n",
    "init.scope": {"cpu.weight": "100\n"},
    "system.slice": {
        "cpu.weight": "250\n",
        "docker.service": {f"docker-{OTHER_ID}.scope": LEAF_FILES},
    },
    "user.slice": {},
    ROOT: {
        **LEAF_FILES,
        ENGINE: {"cpu.stat": "usage_usec 1\nuser_usec 1\nsystem_usec 0\n"},
        WORKLOAD: {
            **LEAF_FILES,
            ADOPTED: LEAF_FILES,
            SMALL: {
                **LEAF_FILES,
                ALICE: {
                    **LEAF_FILES,
                    LEAF: {**LEAF_FILES, f"docker-{ID}.scope": LEAF_FILES},
                },
            },
        },
    },
}


def build(directory: Path, tree: Mapping[str, object]) -> Path:
    """Make the tree below a directory, which may exist; return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        if isinstance(content, str):
            (directory / name).write_text(content)
        elif isinstance(content, Mapping):
            build(directory / name, content)
    return directory


def process(  # they are proc's own
    proc: Path, pid: int, cgroup: str, value: int, *, session: int = 42, pages: int = 100
) -> None:
    """The name is as hostile as a name can be."""
    fields = ["0"] * 50
    fields[3], fields[19], fields[21] = str(session), str(1000 + pid), str(pages)
    texts = {
        "cgroup": f"0::/{cgroup}\n",
        "oom_score_adj": f"{value}\n",
        "stat": f"{pid} (a) R 1 (b) {' '.join(fields)}\n",
    }
    build(proc / str(pid), texts)


class Ticking:
    """A clock that counts its readings."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now
