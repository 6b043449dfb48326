"""What JupyterLab's status bar shows: the memory that the container may use now, and CPU.

Read by the server in the container, where jupyter-resource-usage is. Goes into any image as it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821 - traitlets puts it there


def memory_limit(**_used: object) -> int:
    """Bytes; asked for each time it is shown, because a running server can be resized.

    The machine's memory where there is no limit: of 0 bytes, all would always be nearly used up.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        # not the container's own cgroup, but the root, which has none: --cgroupns=host
        limit = os.environ.get("MEM_LIMIT", "max")
    return machine if limit == "max" else min(int(limit), machine)


c.ResourceUseDisplay.mem_limit = memory_limit
c.ResourceUseDisplay.mem_warning_threshold = 0.15
c.ResourceUseDisplay.track_cpu_percent = True
# Its CPU limit can be no function (the status bar's request would fail), and it compares cores with
# percents: everybody would be warned at once. Who uses all of their CPU has nothing to fear anyway.
c.ResourceUseDisplay.cpu_warning_threshold = 0.0
