"""Cgroup trees on disk, declared as nested literals: a dict is a directory, a string a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    "memory.events.local": "low 0\nhigh 5\nmax 6\noom 1\noom_kill 1\noom_group_kill 0\n",
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
    "io.weight": "default 200\n8:0 300\n",
    "cpuset.cpus": "2-3\n",
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
