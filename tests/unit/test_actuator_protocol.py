from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from enforcer.adapters import actuatorloop
from enforcer.adapters.actuatorloop import CallError, serve
from enforcer.adapters.actuatorprocess import ActuatorProcess
from enforcer.adapters.cgroupreader import read_limits
from enforcer.adapters.properties import (
    FIELDS,
    INFINITY,
    cpu_mask,
    disagreeing,
    parse_cpu_list,
    properties,
)
from enforcer.adapters.systemd import SystemdActuator
from enforcer.adapters.wire import (
    EXISTS,
    MAX_REPLY,
    MAX_REQUEST,
    REFUSED,
    Reply,
    Request,
    WireError,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from enforcer.errors import UnavailableError
from enforcer.model import Limits
from enforcer.names import ROOT, UnitName
from enforcer.ports import SliceSpec
from enforcer.quantities import Bytes, Cpus

SCRIPT = str(Path(__file__).with_name("scriptedactuator.py"))
A = UnitName("jupyter-a.slice")
LIMITS = Limits(memory_max=Bytes(8192), swap_max=Bytes(0), tasks_max=5, cpu_weight=7)

# --- lines ---------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.integers(min_value=0), st.text(max_size=20), st.dictionaries(st.text(), json_values))
def test_a_request_survives_the_line(number: int, call: str, arguments: dict[str, object]) -> None:
    request = Request(id=number, call=call, arguments=arguments)
    assert decode_request(encode_request(request)) == request


@given(st.integers(min_value=0), json_values)
def test_a_reply_survives_the_line(number: int, result: object) -> None:
    assert decode_reply(encode_reply(Reply(id=number, result=result))).result == result


def test_an_error_survives_the_line_without_its_excess() -> None:
    reply = decode_reply(encode_reply(Reply(id=3, error=EXISTS, message="x" * 5000)))
    assert (reply.id, reply.error, len(reply.message)) == (3, EXISTS, 1000)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}\n",
        b'{"id":1}',
        b"nonsense\n",
        b"[1]\n",
        b"\xff\n",
        b"[" * 10_000 + b"\n",
        b'{"id":"1","call":"start","arguments":{},"result":null}\n',
        b" " * MAX_REPLY + b"{}\n",
    ],
)
def test_what_is_no_message_is_refused_on_both_sides(line: bytes) -> None:
    with pytest.raises(WireError):
        decode_request(line)
    if b"result" not in line or b'"id":"' in line:
        with pytest.raises(WireError):
            decode_reply(line)


def test_what_is_too_long_is_not_sent() -> None:
    with pytest.raises(WireError):
        encode_request(Request(id=1, call="x" * MAX_REQUEST))
    assert decode_reply(encode_reply(Reply(id=1, result="x" * MAX_REPLY))).error == REFUSED


# --- properties ----------------------------------------------------------------------------


def test_every_limit_has_its_property_and_none_is_infinity() -> None:
    assert properties(Limits(cpus="0-1,9"), FIELDS) == {
        "CPUQuotaPerSecUSec": INFINITY,
        "CPUQuotaPeriodUSec": 100_000,
        "CPUWeight": 100,
        "MemoryMin": 0,
        "MemoryHigh": INFINITY,
        "MemoryMax": INFINITY,
        "MemorySwapMax": INFINITY,
        "TasksMax": INFINITY,
        "AllowedCPUs": [0b11, 0b10],
    }
    assert properties(Limits(io_weight=50), ("io_weight",)) == {"IOWeight": 50}
    assert properties(Limits(), ("cpus",)) == {"AllowedCPUs": []}


@given(st.sets(st.integers(min_value=0, max_value=1023)))
def test_a_cpu_list_and_its_mask_say_the_same(numbers: set[int]) -> None:
    text = ",".join(map(str, numbers))
    mask = int.from_bytes(cpu_mask(text), "little")
    assert parse_cpu_list(text) == numbers
    assert {bit for bit in range(mask.bit_length()) if mask >> bit & 1} == numbers


def test_what_the_kernel_rounds_away_is_no_disagreement() -> None:
    wanted = Limits(cpu_quota=Cpus(1_234_567), memory_max=Bytes(8191), cpus="0-2", io_weight=5)
    found = {"cpu_quota": 1_234_560, "memory_max": 4096, "cpus": "0,1-2"}
    fields = ("cpu_quota", "memory_max", "cpus", "io_weight", "memory_high")
    assert disagreeing(wanted, fields, found) == ()


def test_every_other_difference_is_a_disagreement() -> None:
    wanted = Limits(memory_max=Bytes(8192), tasks_max=5, cpus="0", io_weight=5, cpu_weight=9)
    found = {"memory_max": None, "cpus": "1", "io_weight": 6, "cpu_quota": 5000, "cpu_weight": 8}
    assert disagreeing(wanted, FIELDS, found) == (
        "cpu_quota",
        "cpu_weight",
        "memory_max",
        "tasks_max",
        "io_weight",
        "cpus",
    )


# --- the actuator's side -------------------------------------------------------------------


class Recording:
    """A bus that says yes to all but one unit."""

    def start_transient(self, unit: str, properties: Mapping[str, object]) -> None:
        raise CallError(EXISTS, f"{unit} with {len(properties)} properties exists")

    def set_properties(self, unit: str, properties: Mapping[str, object], *, runtime: bool) -> None:
        raise OverflowError(unit, properties, runtime)

    def start(self, unit: str) -> None: ...

    def stop(self, unit: str) -> None: ...

    def revert(self, unit: str) -> None: ...

    def control_group(self, service: str) -> str | None:
        return service


def ask(*requests: Request) -> list[Reply]:
    replies = io.BytesIO()
    serve(io.BytesIO(b"".join(map(encode_request, requests))), replies, Recording())
    return [decode_reply(line + b"\n") for line in replies.getvalue().splitlines()]


def test_requests_are_answered_in_order_and_errors_do_not_end_it() -> None:
    replies = ask(
        Request(id=1, call="start_transient", arguments={"unit": A, "properties": {}}),
        Request(id=2, call="set_properties", arguments={"unit": A, "properties": {}, "runtime": 1}),
        Request(id=3, call="control_group", arguments={"surplus": 1}),
        Request(id=4, call="__init__"),
        Request(id=5, call="start", arguments={"unit": A}),
        Request(id=6, call="control_group", arguments={"service": "x"}),
    )
    assert [reply.error for reply in replies] == [EXISTS, REFUSED, REFUSED, REFUSED, "", ""]
    assert replies[5] == Reply(id=6, result="x")


def test_a_line_that_is_no_request_ends_it() -> None:
    with pytest.raises(WireError):
        serve(io.BytesIO(b"x" * (MAX_REQUEST + 5)), io.BytesIO(), Recording())


def test_after_many_refusals_it_ends_so_that_a_fresh_one_comes() -> None:
    requests = [Request(id=n, call="set_properties") for n in range(2000)]
    assert len(ask(*requests)) == 1000


# --- the daemon's side ---------------------------------------------------------------------


class Commands:
    """The command line of the next actuator; counts how many were started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started = 0
        self.stillborn = False

    def __call__(self) -> Sequence[str]:
        self.started += 1
        more = ["stillborn"] if self.stillborn else []
        return [sys.executable, SCRIPT, str(self.root), *more]


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


@pytest_asyncio.fixture
async def client(commands: Commands) -> AsyncIterator[SystemdActuator]:
    client = SystemdActuator(commands.root, command=commands, timeout_seconds=5)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def hasty(commands: Commands) -> AsyncIterator[SystemdActuator]:
    client = SystemdActuator(commands.root, command=commands, timeout_seconds=1)
    yield client
    await client.close()


def spec(unit: str, *, lasting: bool = False, limits: Limits = LIMITS) -> SliceSpec:
    return SliceSpec(unit=UnitName(unit), limits=limits, description="a test", lasting=lasting)


def read(commands: Commands, *path: str) -> str:
    return commands.root.joinpath(*path).read_text().strip()


@pytest.mark.asyncio
async def test_a_slice_is_there_with_its_limits_when_the_call_returns(
    client: SystemdActuator, commands: Commands
) -> None:
    await client.create_slice(spec(A))
    assert read(commands, ROOT, A, "memory.max") == "8192"
    assert read(commands, ROOT, A, "memory.high") == "max"


@pytest.mark.asyncio
async def test_a_slice_that_exists_gets_the_limits_instead(
    client: SystemdActuator, commands: Commands
) -> None:
    await client.create_slice(spec(A))
    await client.create_slice(spec(A, limits=Limits(tasks_max=9)))
    assert read(commands, ROOT, A, "pids.max") == "9"
    assert read(commands, "log") == f"{A} runtime"


@pytest.mark.asyncio
async def test_a_lasting_slice_is_started_and_its_limits_last(
    client: SystemdActuator, commands: Commands
) -> None:
    await client.create_slice(spec(ROOT, lasting=True, limits=Limits()))
    assert read(commands, "started") == ROOT
    assert read(commands, "log") == f"{ROOT} lasting"


@pytest.mark.asyncio
async def test_a_unit_that_is_loaded_but_does_not_run_is_started(
    client: SystemdActuator, commands: Commands
) -> None:
    await client.create_slice(spec("jupyter-fragment.slice", limits=Limits()))
    assert read(commands, "started") == "jupyter-fragment.slice"


@pytest.mark.asyncio
async def test_limits_are_set_on_a_slice_that_runs_only(
    client: SystemdActuator, commands: Commands
) -> None:
    assert not await client.set_limits(A, LIMITS, ("tasks_max",), lasting=False)
    assert commands.started == 0
    await client.create_slice(spec(A))
    assert await client.set_limits(A, Limits(tasks_max=3), ("tasks_max",), lasting=False)
    assert read(commands, ROOT, A, "pids.max") == "3"
    (commands.root / ROOT / "jupyter-unknown.slice").mkdir()
    unknown = UnitName("jupyter-unknown.slice")
    assert not await client.set_limits(unknown, LIMITS, ("tasks_max",), lasting=False)


@pytest.mark.asyncio
async def test_a_limit_the_kernel_does_not_hold_is_an_error(
    commands: Commands,
) -> None:
    client = SystemdActuator(commands.root, command=commands, settle_seconds=0.1)
    with pytest.raises(UnavailableError) as caught:
        await client.create_slice(spec("jupyter-lie.slice"))
    assert caught.value.code == "systemd.unverified"
    assert "memory_max" in caught.value.message
    await client.close()


@pytest.mark.asyncio
async def test_a_stopped_slice_is_gone_when_the_call_returns(
    client: SystemdActuator, commands: Commands
) -> None:
    await client.create_slice(spec(A))
    await client.stop_slice(A)
    assert not (commands.root / ROOT / A).exists()
    await client.stop_slice(A)


@pytest.mark.asyncio
async def test_what_was_set_on_an_earlier_slice_of_that_name_is_removed(commands: Commands) -> None:
    root = commands.root
    client = SystemdActuator(root, runtime=root / "control", command=commands)
    kept = root / "control" / f"{A}.d"
    kept.mkdir(parents=True)
    await client.create_slice(spec(A))
    assert not kept.exists()
    kept.mkdir()
    await client.create_slice(spec(A))
    assert kept.exists()
    await client.stop_slice(A)
    assert not kept.exists()
    await client.close()


@pytest.mark.asyncio
async def test_what_is_set_for_good_leaves_nothing_else_to_come_back(commands: Commands) -> None:
    root = commands.root
    client = SystemdActuator(root, runtime=root / "control", command=commands)
    await client.create_slice(spec(ROOT, lasting=True, limits=Limits()))
    (root / "control" / f"{ROOT}.d").mkdir(parents=True)
    assert await client.set_limits(ROOT, LIMITS, ("tasks_max",), lasting=False)
    assert await client.set_limits(ROOT, LIMITS, ("tasks_max",), lasting=True)
    said = read(commands, "log").splitlines()
    assert said == [f"{ROOT} {how}" for how in ("lasting", "runtime", "runtime", "lasting")]
    refused = UnitName("jupyter-refuse.slice")
    (root / ROOT / refused).mkdir()
    (root / "control" / f"{refused}.d").mkdir()
    with pytest.raises(UnavailableError, match="Invalid argument"):
        await client.set_limits(refused, LIMITS, ("tasks_max",), lasting=True)
    await client.close()


@pytest.mark.asyncio
async def test_what_is_on_disk_is_looked_up_there(commands: Commands) -> None:
    client = SystemdActuator(commands.root, lasting=commands.root / "control", command=commands)
    assert not client.is_lasting(ROOT)
    kept = commands.root / "control" / f"{ROOT}.d"
    kept.mkdir(parents=True)
    assert not client.is_lasting(ROOT)
    (kept / "50-MemoryMax.conf").touch()
    assert client.is_lasting(ROOT)


@pytest.mark.asyncio
async def test_where_a_service_runs_is_told(client: SystemdActuator) -> None:
    assert await client.service_cgroup("docker.service") == "system.slice/docker.service"
    assert await client.service_cgroup("nothing.service") is None


@pytest.mark.asyncio
async def test_a_refusal_is_an_error_with_systemds_own_words(client: SystemdActuator) -> None:
    with pytest.raises(UnavailableError, match="Invalid argument") as caught:
        await client.create_slice(spec("jupyter-refuse.slice"))
    assert caught.value.code == "systemd.refused"


@pytest.mark.asyncio
@pytest.mark.parametrize("trouble", ["crash", "nonsense"])
async def test_after_a_crash_in_the_middle_of_a_call_the_next_call_works(
    client: SystemdActuator, commands: Commands, trouble: str
) -> None:
    await client.service_cgroup("docker.service")
    with pytest.raises(UnavailableError) as caught:
        await client.create_slice(spec(f"jupyter-{trouble}.slice"))
    assert caught.value.code == "systemd.unavailable"
    await client.create_slice(spec(A))
    assert commands.started == 2


@pytest.mark.asyncio
async def test_an_actuator_that_hangs_is_killed_and_the_next_call_works(
    client: SystemdActuator, commands: Commands
) -> None:
    begin = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        await client.create_slice(spec("jupyter-hang.slice"))
    assert caught.value.code == "systemd.timeout"
    assert time.monotonic() - begin < 15
    await client.service_cgroup("docker.service")
    assert commands.started == 2


@pytest.mark.asyncio
async def test_the_kernel_is_not_read_while_pid_1_is_asked_for_more(
    client: SystemdActuator, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: set[str] = set()
    read_while: list[set[str]] = []
    request = ActuatorProcess.request

    async def asked(process: ActuatorProcess, call: str, arguments: Mapping[str, object]) -> Reply:
        unit = str(arguments["unit"])
        waiting.add(unit)
        try:
            return await request(process, call, arguments)
        finally:
            waiting.remove(unit)

    def reading(directory: str, fields: Sequence[str]) -> dict[str, object]:
        read_while.append(set(waiting))
        return read_limits(directory, fields)

    monkeypatch.setattr("enforcer.adapters.systemd._LONGEST_PAUSE_SECONDS", 10.0)
    monkeypatch.setattr(ActuatorProcess, "request", asked)
    monkeypatch.setattr("enforcer.adapters.systemd.read_limits", reading)
    units = ("jupyter-a.slice", "jupyter-slow1.slice", "jupyter-slow2.slice")
    await asyncio.gather(*(client.create_slice(spec(unit)) for unit in units))
    assert read_while
    assert not any(read_while)


@pytest.mark.asyncio
async def test_a_call_that_waits_behind_slow_ones_does_not_kill_them(
    hasty: SystemdActuator, commands: Commands
) -> None:
    calls = [hasty.create_slice(spec(f"jupyter-slow{n}.slice")) for n in range(8)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[-1], UnavailableError)
    assert commands.started == 1
    await hasty.service_cgroup("docker.service")


@pytest.mark.asyncio
async def test_an_actuator_that_never_lives_is_not_started_again_and_again(
    client: SystemdActuator, commands: Commands
) -> None:
    commands.stillborn = True
    for _ in range(20):
        with pytest.raises(UnavailableError):
            await client.service_cgroup("docker.service")
    assert commands.started <= 4
    commands.stillborn = False
    await asyncio.sleep(1)
    await client.service_cgroup("docker.service")


@pytest.mark.asyncio
async def test_an_actuator_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    client = SystemdActuator(tmp_path, command=lambda: ["/nonexistent/python"])
    with pytest.raises(UnavailableError) as caught:
        await client.service_cgroup("docker.service")
    assert caught.value.code == "systemd.unavailable"
    await client.close()


@pytest.mark.asyncio
async def test_many_calls_at_once_each_get_their_own_answer(
    client: SystemdActuator, commands: Commands
) -> None:
    units = [f"jupyter-u{n}.slice" for n in range(30)]
    await asyncio.gather(
        *(client.create_slice(spec(u, limits=Limits(tasks_max=n))) for n, u in enumerate(units))
    )
    assert [read(commands, ROOT, unit, "pids.max") for unit in units] == [str(n) for n in range(30)]
    assert commands.started == 1


def test_the_loop_knows_every_call_of_its_bus() -> None:
    methods = {name for name in vars(actuatorloop.Bus) if not name.startswith("_")}
    calls = [Request(id=1, call=name) for name in methods]
    assert not [reply for reply in ask(*calls) if reply.message.startswith("no such call")]
