"""Hub, dockerd and daemon restart under a running server: nothing is forgotten or left over."""

from __future__ import annotations

import time

from enforcer.quantities import MIB
from tests.machine.hub.hublab import HubLab
from tests.machine.hub.web import ask_health
from tests.machine.lab import until

RESTART_SECONDS = 400.0


def test_a_server_outlives_the_restart_of_everything_and_ends_with_its_lease(
    clean_hub: HubLab,
) -> None:
    hub = clean_hub
    before = hub.started("u01")
    container = hub.container("u01")["Id"]
    browser = hub.browser("u01")
    assert browser.get("/user/u01/").json() == {"light": True}

    # While the hub is away people go on working, and the daemon is restarted besides.
    hub.guest.run("systemctl stop jupyterhub", timeout_seconds=RESTART_SECONDS)
    hub.guest.run("systemctl restart enforcer", timeout_seconds=RESTART_SECONDS)
    assert browser.get("/user/u01/").json() == {"light": True}
    hub.guest.run("systemctl restart docker", timeout_seconds=RESTART_SECONDS)
    assert browser.get("/user/u01/").json() == {"light": True}
    hub.guest.run("systemctl start jupyterhub", timeout_seconds=RESTART_SECONDS)
    hub.wait_for_hub()
    _still_there(hub, before.id, container)
    _hub_is_the_hosts_and_keeps_its_memory(hub)

    # dockerd away while the hub looks: an error is not the end of a server.
    hub.guest.run("systemctl stop docker.socket docker", timeout_seconds=RESTART_SECONDS)
    hub.api.call("GET", "/users/u01")
    time.sleep(2)
    hub.guest.run("systemctl start docker.socket docker", timeout_seconds=RESTART_SECONDS)
    _still_there(hub, before.id, container)

    # The daemon away: what runs goes on, nothing starts, and the user reads why.
    hub.guest.run("systemctl stop enforcer.socket enforcer")
    refused = hub.api.start("u02")
    assert refused.status == 503, refused
    assert "resource service is down" in refused.json()["message"]
    assert hub.browser("u02").get("/hub/spawn/u02").status == 200
    assert hub.api.server("u01")["ready"]
    hub.guest.run("systemctl start enforcer.socket enforcer", timeout_seconds=RESTART_SECONDS)
    until(lambda: hub.client.status().docker_ok)
    _still_there(hub, before.id, container)
    hub.check_everything()

    hub.stopped("u01")
    hub.check_nothing_of("u01")
    until(lambda: not hub.exists(before.unit))
    (receipt,) = hub.client.receipts("u01")
    assert receipt.lease_id == before.id


def _hub_is_the_hosts_and_keeps_its_memory(hub: HubLab) -> None:
    """Outside jupyter.slice, and with a floor that the slice above it has too."""
    pid = hub.guest.run("systemctl show -P MainPID jupyterhub").stdout.strip()
    place = hub.guest.run(f"cat /proc/{pid}/cgroup").stdout.strip()
    assert place == "0::/system.slice/jupyterhub.service"
    files = "jupyterhub.service/memory.min */memory.min memory.min"
    said = hub.guest.run(f"cd /sys/fs/cgroup/system.slice && cat {files}").stdout
    own, *below, above = map(int, said.split())
    assert own == 192 * MIB
    assert above >= sum(below)


def test_a_start_that_is_given_up_or_a_hub_that_dies_in_it_leaves_nothing(
    clean_hub: HubLab,
) -> None:
    hub = clean_hub
    for pause in (0.0, 1.0, 2.5):
        assert hub.api.start("u01").status in {201, 202}
        time.sleep(pause)
        assert hub.api.stop("u01").status in {202, 204, 400}
        hub.api.wait("u01")
        if hub.api.server("u01") is not None:
            hub.stopped("u01")
        until(lambda: not hub.client.leases("u01"))
        until(lambda: not hub.containers())

    assert hub.api.start("u01").status in {201, 202}
    time.sleep(1.5)
    hub.guest.run("systemctl kill --signal=KILL jupyterhub")
    until(lambda: not ask_health(hub.address))
    hub.wait_for_hub()
    # Whatever the start had come to: a server that is up, or the next one gets its place.
    if hub.api.server("u01") is None:
        hub.started("u01")
    until(lambda: bool((hub.api.server("u01") or {}).get("ready")))
    hub.check_everything()
    hub.stopped("u01")
    hub.check_nothing_of("u01")


def _still_there(hub: HubLab, lease_id: str, container: str) -> None:
    """The same server, lease and container, for hub, daemon and Docker alike."""
    until(lambda: bool((hub.api.server("u01") or {}).get("ready")))
    assert hub.lease("u01").id == lease_id
    assert hub.container("u01")["Id"] == container
    assert hub.container("u01")["State"]["Running"]
    assert hub.browser("u01").get("/user/u01/").json() == {"light": True}
