"""JupyterLab itself, in a user's home: an environment runs, and a kernel dies before the server."""

from __future__ import annotations

import time

from enforcer.api.types import LeaseReply
from enforcer.machine.hub import ENVIRONMENT
from enforcer.model import Resize
from enforcer.quantities import MIB, PAGE, Bytes
from tests.machine.hub.hublab import HubLab
from tests.machine.hub.kernels import Kernel, start_kernel
from tests.machine.hub.web import call_server
from tests.machine.lab import until

HELD_MIB = 160
RESIZED_SECONDS = 120.0
HOG = """
held = []
while True:
    held.append(bytearray(b"x") * (8 << 20))
"""


def test_an_environment_in_the_home_runs_and_memory_that_runs_out_costs_the_kernel_only(
    clean_hub: HubLab,
) -> None:
    hub = clean_hub
    options = {"profile": "Lab", "image": "JupyterLab", "mem_limit": 0.5}
    lease = hub.started("grace", options)
    hub.check_kernel(lease)
    assert lease.mem_limit == 512 * MIB
    shown = hub.container("grace")

    # A script with its interpreter's path in it, as conda and pip write them.
    script = f"{ENVIRONMENT}/bin/gc-content"
    assert hub.guest.run(["head", "-1", script]).stdout == f"#!{ENVIRONMENT}/bin/python\n"
    assert hub.docker(f"exec {shown['Id']} {script} GATTACA") == f"0.29 {ENVIRONMENT}"

    # Its python is a kernel, with packages that only it has.
    kernel = start_kernel(hub.api, "grace", "genomics")
    code = "import sequences, sys; print(sequences.gc_content('GCAT'), sys.prefix)"
    assert kernel.run(code) == f"0.5 {ENVIRONMENT}\n"

    # The user's own limit, as the status bar shows it.
    assert _status_bar(hub) == (lease.mem_limit, False)
    _resize_below_what_is_used(hub, lease, kernel)

    server = shown["State"]["Pid"]
    assert kernel.run(HOG) == "dead"
    assert hub.event(lease.unit, "oom") >= 1
    assert hub.event(lease.unit, "oom_kill") >= 1
    now = hub.container("grace")
    assert now["State"]["Running"]
    assert now["State"]["Pid"] == server
    until(lambda: call_server(hub.api, "grace", "GET", "/api/status").status == 200)
    assert hub.api.server("grace")["ready"]
    assert hub.lease("grace").id == lease.id
    until(lambda: any(one.oom_kills for one in hub.client.history(lease.id).samples))

    hub.stopped("grace")
    hub.check_nothing_of("grace")
    (receipt,) = hub.client.receipts("grace")
    assert receipt.oom_kills >= 1
    assert receipt.memory_peak <= lease.mem_limit


def _resize_below_what_is_used(hub: HubLab, lease: LeaseReply, kernel: Kernel) -> None:
    """It waits until less is used, costs no kernel, and goes back when its time is over."""
    assert kernel.run(f"held = bytearray(b'x') * ({HELD_MIB} << 20)") == ""
    used = (hub.number(lease.unit, "memory.current") or 0) - hub.event(
        lease.unit, "inactive_file", "memory.stat"
    )
    limit = Bytes((used - HELD_MIB // 2 * MIB) // PAGE * PAGE)
    begin = time.monotonic()
    hub.client.resize(lease.id, Resize(mem_limit=limit, seconds=RESIZED_SECONDS))
    time.sleep(3)  # some ticks
    assert (hub.number(lease.unit, "memory.max") or 0) >= used
    assert kernel.run("print(len(held) >> 20)") == f"{HELD_MIB}\n"

    assert kernel.run("del held") == ""
    until(lambda: hub.number(lease.unit, "memory.max") == limit)
    until(lambda: _status_bar(hub)[0] == limit)
    assert kernel.run("held = []; print('still here')") == "still here\n"
    grown = 0
    while not _status_bar(hub)[1]:
        assert grown < HELD_MIB // 2, "no warning, and the limit is near"
        assert kernel.run("held.append(bytearray(b'x') * (16 << 20))") == ""
        grown += 16
    assert time.monotonic() - begin < RESIZED_SECONDS, "too slow a computer to see it in time"

    until(lambda: hub.number(lease.unit, "memory.max") == lease.mem_limit, RESIZED_SECONDS)
    until(lambda: _status_bar(hub) == (lease.mem_limit, False))
    assert kernel.run("print(len(held))") == f"{grown // 16}\n"
    assert hub.event(lease.unit, "oom_kill") == 0


def _status_bar(hub: HubLab) -> tuple[int, bool]:
    """What the user's JupyterLab shows as the limit of memory (bytes), and whether it warns."""
    told = call_server(hub.api, "grace", "GET", "/api/metrics/v1").json()["limits"]["memory"]
    return told["rss"], told["warn"]
