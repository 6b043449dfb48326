"""Runs in the guest: the measurements that a command over ssh is too slow for.

    probe.py cpu SECONDS CGROUP…          CPU seconds that each used in that time
    probe.py drift FILE WORD…             runs the command; how long the file was not what it was
    probe.py took TIMES WORD…             runs it so often; the median of the seconds it took

Only the standard library; it answers with one JSON object.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

POLL_SECONDS = 0.02
"""Shorter would take an emulated processor's time from those whose answer is waited for."""
SETTLED_SECONDS = 0.5
GIVE_UP_SECONDS = 15.0


def measure_cpu(seconds: float, cgroups: Sequence[str]) -> dict[str, object]:
    """Read every counter, wait, read it again; the time is that of the counter's own readings."""
    before = {cgroup: _cpu(cgroup) for cgroup in cgroups}
    time.sleep(seconds)
    after = {cgroup: _cpu(cgroup) for cgroup in cgroups}
    cores = {
        cgroup: (after[cgroup][1] - used) / (after[cgroup][0] - at)
        for cgroup, (at, used) in before.items()
    }
    return {"cores": cores}


def _cpu(cgroup: str) -> tuple[float, float]:
    for line in (Path(cgroup) / "cpu.stat").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == "usage_usec":
            return time.monotonic(), int(value) / 1e6
    raise KeyError(cgroup)


def watch_drift(file: str, words: Sequence[str]) -> dict[str, object]:
    """Run a command that changes a file, and time how long the file is not what it was before.

    undone: it is as before. seconds: from the change to the last moment it was wrong; 0 where it
    was put back between two looks.
    """
    path = Path(file)
    wanted = path.read_text()
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    wrong_since: float | None = None
    seconds, quiet_since = 0.0, time.monotonic()
    found = ""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while (now := time.monotonic()) < deadline:
        value = path.read_text()
        if value != wanted:
            found = value.strip()
            wrong_since = now if wrong_since is None else wrong_since
            quiet_since = now
        elif wrong_since is not None:
            seconds, wrong_since = max(seconds, now - wrong_since), None
        if process.poll() is None:
            quiet_since = now
        elif now - quiet_since > SETTLED_SECONDS:
            break
        time.sleep(POLL_SECONDS)
    if process.poll() is None:
        process.kill()
    said, _ = process.communicate()
    return {
        "undone": path.read_text() == wanted,
        "seconds": seconds,
        "found": found,
        "wanted": wanted.strip(),
        "code": process.returncode,
        "said": said.decode(errors="replace").strip()[-500:],
    }


def time_command(times: int, words: Sequence[str]) -> dict[str, object]:
    """Run a command so often, one after the other, and take the median of its seconds."""
    seconds = []
    for _ in range(times):
        begin = time.monotonic()
        subprocess.run(words, stdout=subprocess.DEVNULL, timeout=GIVE_UP_SECONDS, check=True)
        seconds.append(time.monotonic() - begin)
    return {"seconds": statistics.median(seconds)}


def main(words: Sequence[str]) -> int:
    """Measure what the words say, and print it."""
    kind, first, *rest = words
    if kind == "cpu":
        result = measure_cpu(float(first), rest)
    elif kind == "took":
        result = time_command(int(first), rest)
    else:
        result = watch_drift(first, rest)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
