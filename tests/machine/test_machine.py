"""The throw-away machine itself: is it what the other tests take it for?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from enforcer import machine
from enforcer.errors import UnavailableError
from enforcer.machine.cache import Cache

mostly_on_one = pytest.mark.parametrize(
    "suite",
    [
        pytest.param(one, marks=() if one == machine.DEFAULT_SUITE else pytest.mark.long)
        for one in machine.SUITES
    ],
)
"""For what is shown on every Debian. To build a second one takes minutes where it is emulated."""

WAIT_SECONDS = 60.0


@mostly_on_one
def test_the_guest_is_a_host_as_the_enforcer_wants_it(suite: str, guest: machine.Guest) -> None:
    assert guest.run("systemctl is-system-running").stdout.strip() == "running"
    python = machine.SUITES[suite].python
    assert guest.run("python3 --version").stdout.startswith(f"Python {python}.")
    cgroups = guest.run("findmnt --noheadings --output FSTYPE,OPTIONS /sys/fs/cgroup").stdout
    assert cgroups.startswith("cgroup2")
    assert "memory_recursiveprot" in cgroups
    docker = guest.run("docker info --format '{{.CgroupDriver}} {{.CgroupVersion}}'").stdout
    assert docker.split() == ["systemd", "2"]
    # A login is a session below user.slice, beside what the enforcer holds.
    assert guest.read("/proc/self/cgroup").startswith("0::/user.slice/")
    venv = "/opt/enforcer/venv/bin/python"
    assert guest.run((venv, "-c", "import aiohttp, pydantic, pystemd.systemd1")).code == 0


@mostly_on_one
def test_a_container_has_the_guests_python_or_busybox_alone(guest: machine.Guest) -> None:
    run = "docker run --rm --network none"
    alone = guest.run(f"{run} {machine.DEMO_IMAGE} sh -c 'echo alone | tr a-z A-Z'")
    assert alone.stdout == "ALONE\n"
    mounts = "-v /usr:/usr:ro -v /opt:/opt:ro"
    python = "/opt/enforcer/venv/bin/python -c 'import ssl, pydantic; print(2 + 3)'"
    assert guest.run(f"{run} {mounts} {machine.DEMO_IMAGE} {python}").stdout == "5\n"


def test_the_swap_can_be_switched_off_and_on(guest: machine.Guest) -> None:
    def swap_kib() -> int:
        return int(guest.run("awk '/^SwapTotal/ {print $2}' /proc/meminfo").stdout)

    assert swap_kib() > 2_000_000
    guest.run("swapoff -a")
    assert swap_kib() == 0
    guest.run("swapon -a")
    assert swap_kib() > 2_000_000


def test_the_clock_of_a_restored_guest_is_right(guest: machine.Guest) -> None:
    before = time.time()
    there = float(guest.run("date +%s.%N").stdout)
    assert before - 1 < there < time.time() + 1


def test_machines_from_one_layer_do_not_see_each_other(
    layer: machine.Layer, guest: machine.Guest
) -> None:
    guest.write("/root/mine", "one")
    guest.run("mkdir /sys/fs/cgroup/mine")
    with machine.start(layer) as other:
        assert other.run("ls /root/mine /sys/fs/cgroup/mine", check=False).code != 0
        other.write("/root/mine", "two")
        assert guest.read("/root/mine") == "one"


@pytest.mark.long
def test_a_reboot_keeps_the_disk_and_brings_everything_up(guest: machine.Guest) -> None:
    guest.write("/root/mine", "one")
    guest.reboot(timeout_seconds=900)
    assert guest.read("/root/mine") == "one"
    assert guest.run("systemctl is-system-running").stdout.strip() == "running"
    assert guest.run("swapon --noheadings --show=NAME").stdout.strip() == "/swapfile"
    assert machine.DEMO_IMAGE in guest.run("docker images").stdout.replace("   latest", ":latest")


@pytest.mark.long
def test_a_panic_of_the_kernel_is_followed_by_another_boot(guest: machine.Guest) -> None:
    before = guest.read("/proc/sys/kernel/random/boot_id")
    guest.run("(sleep 1; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &")
    guest.hang_up()
    time.sleep(5)
    guest.await_boot(before, timeout_seconds=900)
    assert guest.run("systemctl is-system-running").stdout.strip() == "running"


def test_a_failing_command_says_what_it_said(guest: machine.Guest) -> None:
    with pytest.raises(machine.CommandError, match="no such flag") as caught:
        guest.run("echo no such flag >&2; exit 3")
    assert caught.value.completed == machine.Completed("", "no such flag\n", 3)
    assert guest.run(("echo", "$HOME", "a b")).stdout == "$HOME a b\n"
    assert guest.run("cat", input="handed in").stdout == "handed in"


def test_a_command_that_takes_too_long_is_an_error(guest: machine.Guest) -> None:
    with pytest.raises(UnavailableError, match="took over"):
        guest.run("sleep 60", timeout_seconds=0.5)


def test_a_started_command_can_be_read_and_stopped_with_its_children(
    guest: machine.Guest,
) -> None:
    with guest.start("echo first; sleep 1234 & sleep 1234") as running:
        assert next(running.lines()) == "first"
        assert len(guest.run("pgrep -fx 'sleep 1234'").stdout.split()) == 2
    assert guest.run("pgrep -fx 'sleep 1234'", check=False).stdout == ""
    with guest.start(("sh", "-c", "echo last; exit 4")) as running:
        assert running.wait() == machine.Completed("last\n", "", 4)


def test_files_and_folders_go_in_and_come_out(guest: machine.Guest, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_bytes(bytes(range(256)))
    (source / "deep" / "link").symlink_to("file")
    guest.copy_in(source, "/srv/a b/target")
    guest.copy_out("/srv/a b/target/deep", tmp_path / "back")
    back = tmp_path / "back" / "deep"
    assert (back / "file").read_bytes() == bytes(range(256))
    assert (back / "link").readlink() == Path("file")


def test_ports_and_sockets_of_the_guest_are_reachable(layer: machine.Layer, tmp_path: Path) -> None:
    serve = "busybox nc -ll -p {} -e echo from {}"
    with (
        machine.start(layer, forwards={"first": 4001}) as guest,
        guest.start(serve.format(4001, "first")),
        guest.start(serve.format(4002, "second")),
    ):
        ports = {"first": guest.ports["first"], "second": guest.forward(4002)}
        for name, port in ports.items():
            assert wait_for(lambda port=port: answer(port)) == f"from {name}\n"  # type: ignore[misc]
        local = Path(os.path.relpath(tmp_path)) / "docker.sock"
        guest.forward_socket("/run/docker.sock", local)
        assert pinged(local).endswith(b"\r\n\r\nOK")


def pinged(dockerd: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(dockerd))
        connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(4096), b""))


def answer(port: int) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            return connection.recv(100).decode()
    except ConnectionError:
        return ""


def wait_for(found: Callable[[], str]) -> str:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.1)
    raise TimeoutError


def test_nothing_is_left_of_a_machine(layer: machine.Layer) -> None:
    before = traces()
    with machine.start(layer):
        assert traces() - before
    assert traces() <= before


KILLED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from pathlib import Path
from enforcer import machine
from enforcer.machine.cache import Layer
with machine.start(Layer(Path(sys.argv[1]))):
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_of_a_machine_whose_owner_is_ended(
    layer: machine.Layer, how: signal.Signals
) -> None:
    before = traces()
    words = [sys.executable, "-c", KILLED, str(layer.folder)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=checkout()
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        assert traces() - before
        owner.send_signal(how)
        owner.wait(WAIT_SECONDS)
    wait_for(lambda: "gone" if traces() <= before else "")


def checkout() -> Path:
    return Path(__file__).parent.parent.parent


def traces() -> set[str]:
    """What a running machine shows of itself: processes, folders."""
    found = {str(path) for path in (Cache().folder / "runs").glob("*")}
    found |= {str(path) for path in Path("/tmp").glob("enforcer-*")}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
        if b"enforcer-guest" in command:
            found.add(f"process {folder.name}")
    return found
