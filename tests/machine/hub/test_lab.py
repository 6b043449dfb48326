"""JupyterLab itself, in a user's home: an environment runs, and a kernel dies before the server."""

from __future__ import annotations

from enforcer.machine.hub import ENVIRONMENT
from tests.machine.hub.hublab import HubLab
from tests.machine.hub.kernels import start_kernel
from tests.machine.hub.web import call_server
from tests.machine.lab import until

MIB = 2**20
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
    used = call_server(hub.api, "grace", "GET", "/api/metrics/v1").json()
    assert used["limits"]["memory"]["rss"] == lease.mem_limit

    server = shown["State"]["Pid"]
    assert kernel.run(HOG) == "dead"
    assert hub.event(lease.unit, "oom_kill") >= 1
    assert hub.event(lease.unit, "oom_kill", "memory.events.local") >= 0
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
