"""Peers that mean ill or know no better: a crowd, the slow, the garbled, those without a right."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from enforcer.model import Claim, EndReason, LeaseState
from enforcer.names import UnitName, cgroup_path
from enforcer.quantities import CORE, GIB, MIB, PAGE, Bytes, Cpus
from tests.machine.lab import CGROUPS, CHECKOUT, SOCKET, Lab, until
from tests.machine.test_boot import limits
from tests.machine.test_machine import mostly_on_one

INSIDE: Final = Path(__file__).parent / "inside"
_log = logging.getLogger(__name__)

NOT_HTTP: Final = {
    "nothing": "",
    "garbage": "\x00\xff\xfe\x01\n\n\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a shell": "ls -la\r\n\r\n",
    "no version": "GET /v1/status nonsense\r\n\r\n",
    "another version": "GET /v1/status HTTP/9.9\r\n\r\n",
    "truncated header": "GET /v1/status HTTP/1.1\r\nHost: e",
    "truncated body": "POST /v1/leases HTTP/1.1\r\nHost: e\r\nContent-Length: 500\r\n\r\n{",
    "a lying length": "POST /v1/leases HTTP/1.1\r\nHost: e\r\nContent-Length: -1\r\n\r\n{}",
    "two lengths": "POST /v1/leases HTTP/1.1\r\nHost: e\r\nContent-Length: 2\r\n"
    "Content-Length: 3\r\n\r\n{}",
    "a header without end": "GET /v1/status HTTP/1.1\r\nX: " + "x" * 100_000,
    "a body without end": "POST /v1/leases HTTP/1.1\r\nHost: e\r\n"
    "Content-Type: application/json\r\nContent-Length: 100000000\r\n\r\n" + "x" * 200_000,
}

MOST: Final = {"cpu_limit": 1.25, "mem_limit": GIB, "cpu_guarantee": 1.0, "mem_guarantee": GIB}
"""What a lease of profile Wide may be resized to, in cores and bytes."""
BEYOND: Final = {
    "cpu_limit": (403, "limit.above-profile"),
    "mem_limit": (403, "limit.above-profile"),
    "cpu_guarantee": (409, "admission.never-fits"),
    "mem_guarantee": (400, "guarantee.above-limit"),
}
"""How one step more is refused, once the limits are as high as they may be."""
IN_FORCE: Final = {
    "cpu_limit": ("cpu.max", "125000 100000"),
    "mem_limit": ("memory.max", str(GIB)),
    "mem_guarantee": ("memory.min", str(GIB)),
}


def test_garbage_gets_an_error_or_silence_and_harms_nobody(lab: Lab) -> None:
    pid = lab.daemon_pid()
    lab.guest.write("/root/peers.py", (INSIDE / "peers.py").read_text())
    lab.guest.write("/root/garbage.json", json.dumps(NOT_HTTP))  # too much for a command line
    done = lab.guest.run("python3 /root/peers.py garbage /root/garbage.json", timeout_seconds=300)
    told: dict[str, dict[str, Any]] = json.loads(done.stdout)
    _log.info("%s", told)
    for name, answer in told.items():
        assert answer["ended"], f"{name}: the connection stays open"
        assert answer["seconds"] < 15, name
        assert not answer["status"] or 400 <= answer["status"] < 500, (name, answer)
    assert told["garbage"]["status"] == 400
    assert told["a header without end"]["status"] in {400, 431}
    assert told["a body without end"]["status"] == 413
    assert told["truncated body"]["status"] == 408
    # One byte a second gets its header's ten seconds, and no more.
    assert told["slow"]["seconds"] < 15
    assert lab.daemon_pid() == pid
    assert lab.client.status().leases.get(LeaseState.PENDING, 0) == 0


def test_a_thousand_connections_of_one_user_do_not_lock_root_out(lab: Lab) -> None:
    lab.guest.run("useradd --create-home crowd; useradd other")
    lab.guest.write("/tmp/peers.py", (INSIDE / "peers.py").read_text())
    as_user = "setpriv --reuid=crowd --regid=crowd --clear-groups"
    with lab.guest.start(f"ulimit -n 4096; {as_user} python3 /tmp/peers.py crowd 1000") as crowd:
        held = next(crowd.lines())
        _log.info("the crowd holds %s", held)
        assert json.loads(held)["connected"] == 1000
        # root, on a connection of its own
        told = json.loads(lab.guest.run(["/opt/enforcer/venv/bin/python", "-c", _CLAIM]).stdout)
        assert told["state"] == LeaseState.PENDING
        _log.info("root's claim beside the crowd: %.2f s", told["seconds"])
        assert told["seconds"] < 5
        # Nor another user.
        other = "setpriv --reuid=other --regid=other --clear-groups"
        asked = f"{other} curl --silent --max-time 5 --unix-socket {SOCKET} http://e/v1/status"
        assert json.loads(lab.guest.run(asked).stdout)["user"] == "other"
        metrics = "curl --silent --max-time 5 http://127.0.0.1:9753/metrics"
        assert "enforcer_leases" in lab.guest.run(metrics).stdout
        crowd.stop()


@mostly_on_one
def test_a_peer_without_the_right_changes_and_sees_its_own_alone(lab: Lab) -> None:
    lease = lab.client.claim(_claim("ann"))
    lab.guest.run("useradd --create-home bob")
    mine = json.dumps({"user": "bob", "profile": "Small", "mem_guarantee": "8 MiB"})
    theirs = json.dumps({"user": "ann", "server": "two"})
    answers = {
        "claim for another": ("POST /v1/leases", theirs, 403),
        "claim for oneself": ("POST /v1/leases", mine, 201),
        "another's leases": ("GET /v1/leases?user=ann", "", 403),
        "another's explain": ("GET /v1/explain?user=ann", "", 403),
        "another's receipts": ("GET /v1/receipts?user=ann", "", 403),
        "another's lease": (f"GET /v1/leases/{lease.id}", "", 404),
        "end another's lease": (f"DELETE /v1/leases/{lease.id}", "", None),
        "resize another's": (f"PATCH /v1/leases/{lease.id}", '{"mem_limit": "9 MiB"}', 404),
        "reload": ("POST /v1/reload", "", 403),
        "plan": ("POST /v1/plan", "x = 1", 403),
    }
    for what, (request, body, wanted) in answers.items():
        status, told = _as_bob(lab, request, body)
        if wanted is not None:
            assert status == wanted, (what, status, told)
        if wanted is not None and wanted >= 400:
            assert told["code"], what
            assert told["detail"], what
    _, own = _as_bob(lab, "GET /v1/leases", "")
    assert [one["user"] for one in own["leases"]] == ["bob"]
    _, status = _as_bob(lab, "GET /v1/status", "")
    assert status["drift"] is None
    assert "ann" not in json.dumps(status)
    assert lab.client.lease(lease.id).state is LeaseState.PENDING
    said = lab.guest.run("runuser -u bob -- enforcer reload", check=False)
    assert said.code == 1
    assert "root" in said.stderr + said.stdout


def test_a_user_ends_the_lease_of_a_container_only_once_it_has_stopped(lab: Lab) -> None:
    text = (CHECKOUT / "tests/machine/enforcer.toml").read_text()
    lab.configure(text.replace("release_seconds = 3", "release_seconds = 3000"))
    lab.guest.run("useradd bob")
    lease = lab.place(_claim("bob"), options="--name mine --stop-timeout=0")
    scope = f"{CGROUPS}/{cgroup_path(UnitName(lease.unit))}/docker-{lease.container_id}.scope"
    before = limits(lab, lease.unit), lab.guest.read(f"{scope}/cgroup.procs")
    status, told = _as_bob(lab, f"DELETE /v1/leases/{lease.id}")
    assert (status, told["code"]) == (409, "lease.running")
    assert told["detail"]
    assert told["hint"]
    after = lab.client.lease(lease.id)
    assert (after.state, after.container_id) == (LeaseState.BOUND, lease.container_id)
    assert after.deadline is None
    assert (limits(lab, lease.unit), lab.guest.read(f"{scope}/cgroup.procs")) == before
    assert not lab.client.receipts()
    lab.docker("stop mine")
    assert [one.id for one in lab.client.leases()] == [lease.id], "it ended by itself"
    until(lambda: _as_bob(lab, f"DELETE /v1/leases/{lease.id}")[0] == 204)
    assert not lab.client.leases()
    assert [one.reason for one in lab.client.receipts("bob")] == [EndReason.STOPPED]
    # The stopped container keeps its leaf, but nothing is promised there any more.
    until(lambda: lab.number(lease.unit, "memory.min") == 0)


def test_the_metrics_on_the_socket_are_not_for_everyone(lab: Lab) -> None:
    lab.guest.run("useradd bob")
    lease = lab.client.claim(_claim("bob"))
    status, told = _as_bob(lab, "GET /metrics")
    assert (status, told["code"]) == (403, "peer.not-privileged")
    assert "only root" in told["detail"]
    assert told["hint"]
    limit = lab.number(lease.unit, "memory.max")
    assert limit == 256 * MIB
    until(lambda: _limit_measured(lab, "bob") == limit)


def test_a_resize_may_ask_for_the_bounds_it_is_told_and_for_no_more(lab: Lab) -> None:
    lab.guest.run("useradd bob")
    lease = lab.client.claim(
        Claim(
            user="bob",
            profile="Wide",
            cpu_limit=Cpus(CORE // 4),
            mem_limit=Bytes(64 * MIB),
            cpu_guarantee=Cpus(0),
            mem_guarantee=Bytes(8 * MIB),
        )
    )
    path = f"/v1/leases/{lease.id}"
    assert _as_bob(lab, f"GET {path}/bounds") == (200, MOST)
    for what, most in MOST.items():
        before = limits(lab, lease.unit)
        status, told = _as_bob(lab, f"PATCH {path}", _asking(what, _step_above(what, most)))
        assert (status, told["code"]) == BEYOND[what], (what, told)
        assert limits(lab, lease.unit) == before, what
        status, told = _as_bob(lab, f"PATCH {path}", _asking(what, most))
        assert (status, told.get(what)) == (200, most), (what, told)
        if what in IN_FORCE:
            file, wanted = IN_FORCE[what]
            until(lambda: lab.read(lease.unit, file) == wanted)  # noqa: B023 # it is called here
    assert _as_bob(lab, f"GET {path}/bounds") == (200, MOST)


_CLAIM: Final = """\
import json, time
from enforcer.client import Client
from enforcer.model import Claim
from enforcer.quantities import Bytes, Cpus

wanted = Claim(user="ann", profile="Small", cpu_guarantee=Cpus(0), mem_guarantee=Bytes(8 << 20))
with Client() as client:
    begin = time.monotonic()
    lease = client.claim(wanted)
    print(json.dumps({"state": lease.state, "seconds": time.monotonic() - begin}))
"""


def _as_bob(lab: Lab, request: str, body: str = "") -> tuple[int, Any]:
    status, answer = _ask(lab, "bob", request, body)
    return status, json.loads(answer) if answer else None


def _ask(lab: Lab, user: str, request: str, body: str = "") -> tuple[int, str]:
    method, _, path = request.partition(" ")
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "curl", "--silent"]
    words += ["--max-time", "30", "--unix-socket", SOCKET, "--request", method]
    words += ["--write-out", "\n%{http_code}", f"http://e{path}"]
    if body:
        words += ["--header", "Content-Type: application/json", "--data-binary", body]
    answer, _, status = lab.guest.run(words).stdout.rpartition("\n")
    return int(status), answer


def _limit_measured(lab: Lab, user: str) -> float | None:
    """Return the memory limit that root reads in the socket's metrics."""
    status, text = _ask(lab, "root", "GET /metrics")
    assert status == 200, text
    return next(
        (
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "enforcer_lease_memory_limit_bytes" and sample.labels["user"] == user
        ),
        None,
    )


def _step_above(what: str, amount: float) -> float:
    """Return the least that is more: memory is counted in whole pages, CPU in microseconds."""
    return amount + (1e-6 if what.startswith("cpu") else PAGE)


def _asking(what: str, amount: float) -> str:
    return json.dumps({what: f"{amount:.6f}" if what.startswith("cpu") else amount})


def _claim(user: str) -> Claim:
    return Claim(user=user, profile="Small", cpu_guarantee=Cpus(0), mem_guarantee=Bytes(8 * MIB))
