from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from enforcer.config import parse_config
from enforcer.config.document import Document, Section
from enforcer.model import AdmissionMode, Capacity, Config
from enforcer.quantities import CORE, GIB, MIB, Bytes, Cpus
from tests.examples import examples
from tests.unit.configs import CAPACITY, VALID, document, parse, trees

EXAMPLE = (Path(__file__).parents[2] / "systemd" / "enforcer.toml").read_text(encoding="utf-8")


def machine(cores: int, memory: float, swap: int = 0) -> Capacity:
    return Capacity(cores=cores, memory=Bytes(int(memory * GIB)), swap=Bytes(swap * GIB))


TINY = """
resource_profiles.Tiny = { cpu_limit = 0.1, mem_limit = "64 MiB" }
docker_profiles.A = "a"
user_profiles.default = { allowed_resources = ["Tiny"], allowed_docker = ["A"] }
"""


def test_what_was_written_is_what_counts() -> None:
    config = parse()
    assert list(config.profiles) == ["Tiny", "Large"]
    assert config.profiles["Large"].cpu_limit == 10 * CORE
    assert config.profiles["Large"].mem_limit == 40 * GIB
    assert config.profiles["Large"].swap_limit == 0
    assert config.profiles["Large"].tasks_limit == 4096
    assert list(config.images) == ["SingleUser", "DataScience"]
    assert config.users["default"].allowed_resources == ("Tiny", "Large")
    assert config.users["default"].max_mem_guarantee == 10 * GIB
    assert config.volumes_ro == ("/media/references",)
    assert config.admission.mode is AdmissionMode.SCALE
    assert config.daemon.metrics_port == 9753


@pytest.mark.parametrize(
    ("cores", "memory", "cpu_kept", "memory_kept"),
    [
        (1, 1, 0.25, 512),
        (2, 3, 0.25, 512),
        (5, 8, 0.5, 819.2),
        (40, 128, 1, 2048),
        (2, 0.5, 0.25, 256),
    ],
)
def test_some_of_every_machine_stays_with_the_host(
    cores: int, memory: float, cpu_kept: float, memory_kept: float
) -> None:
    quota = parse_config(TINY, machine(cores, memory)).quota
    assert quota.cpu == cores * CORE - cpu_kept * CORE
    assert abs(quota.memory - (memory * GIB - memory_kept * MIB)) <= 4096


def test_the_engine_has_a_floor_that_leaves_most_to_the_containers() -> None:
    large = parse().engine
    assert (large.cpu, large.memory) == (39 * CORE // 20, 384 * MIB)
    assert large.memory_per_container == 16 * MIB
    small = parse_config(TINY, machine(1, 0.5))
    assert small.engine.cpu == CORE // 10
    assert small.engine.memory == small.quota.memory // 4
    assert small.engine.memory_per_container == 4 * MIB


def test_a_percentage_is_of_the_machine_of_jupyter_or_of_the_workload() -> None:
    config = parse(
        TINY
        + """
        [machine]
        limit = { cpu = "50%", memory = "50%" }
        swap = "50%"
        [engine]
        cpu = "10%"
        memory = "10%"
        memory_per_container = 0
        [adopted]
        cpu_limit = "50%"
        mem_limit = "50%"
        swap_limit = "50%"
        tasks_limit = 5
        [resource_profiles.Half]
        cpu_limit = "150%"
        mem_limit = "50%"
        mem_throttle = "50%"
        shm_size = "25%"
        swap_limit = "25%"
        """
    )
    assert (config.quota.cpu, config.quota.memory) == (20 * CORE, 64 * GIB)
    assert config.quota.swap == 4 * GIB
    assert config.engine.cpu == 2 * CORE
    workload = 64 * GIB - config.engine.memory
    assert config.adopted.cpu == 9 * CORE
    assert abs(config.adopted.memory - workload // 2) <= 4096
    assert config.adopted.swap == 2 * GIB
    assert config.adopted.tasks == 5
    half = config.profiles["Half"]
    assert half.cpu_limit == 3 * CORE // 2
    assert half.mem_limit == config.adopted.memory
    assert half.mem_throttle is not None
    assert abs(half.mem_throttle - half.mem_limit // 2) <= 4096
    assert half.shm_size is not None
    assert abs(half.shm_size - half.mem_limit // 4) <= 4096
    assert half.swap_limit == GIB


def test_what_is_reserved_is_taken_off_and_the_rest_is_by_default() -> None:
    quota = parse(VALID + "[machine]\nreserved = { cpu = 4 }\ntasks = 1000").quota
    assert quota.cpu == 36 * CORE
    assert quota.memory == 126 * GIB
    assert quota.tasks == 1000
    assert parse(VALID + "[machine.reserved]\nmemory = 28").quota.memory == 100 * GIB


def test_tasks_never_exceed_what_the_level_above_has() -> None:
    config = parse(
        VALID.replace("mem_limit = 2", "mem_limit = 2\ntasks_total = 50")
        + "[machine]\ntasks = 1000"
    )
    assert config.profiles["Tiny"].tasks_limit == 50
    assert config.profiles["Large"].tasks_limit == 1000
    assert config.adopted.tasks == 250


def test_whole_cores_round_the_reserve_up() -> None:
    quota = parse_config(TINY + "machine.whole_cores = true", machine(4, 8)).quota
    assert quota.whole_cores
    assert quota.cpu == 3 * CORE


def test_what_default_leaves_open_is_nothing() -> None:
    default = parse(TINY).users["default"]
    assert default.max_cpu_guarantee == Cpus(0)
    assert default.max_mem_guarantee == Bytes(0)
    assert default.host_homedir_format_string is None


def test_settings_of_admission_and_daemon() -> None:
    config = parse(
        VALID
        + """
        [admission]
        mode = "queue"
        queue_length = 3
        [daemon]
        hub_users = ["hub", "svc-hub"]
        metrics = "[::1]:9000"
        tick_seconds = 1
        resize_grace_seconds = 60
        """
    )
    assert config.admission.mode is AdmissionMode.QUEUE
    assert config.admission.queue_length == 3
    assert config.admission.claim_seconds == 180
    assert config.daemon.hub_users == ("hub", "svc-hub")
    assert (config.daemon.metrics_host, config.daemon.metrics_port) == ("::1", 9000)
    assert config.daemon.tick_seconds == 1
    assert config.daemon.resize_grace_seconds == 60


@pytest.mark.parametrize("cores", [2, 64])
@pytest.mark.parametrize("memory", [1, 2, 4096])
def test_the_example_is_valid_wherever_it_is_installed(cores: int, memory: int) -> None:
    parse_config(EXAMPLE, machine(cores, memory))


def test_the_example_stays_valid_when_its_comments_are_keys() -> None:
    config = parse_config(uncommented(EXAMPLE), machine(40, 256, swap=8))
    plain = parse_config(EXAMPLE, machine(40, 256, swap=8))
    assert config.admission == plain.admission
    assert config.engine == plain.engine
    assert config.adopted.memory == plain.adopted.memory
    assert "students" in config.groups


def uncommented(text: str) -> str:
    lines = []
    for line in text.splitlines():
        bare = line.removeprefix("#")
        is_key = line.startswith("#") and (
            bare.startswith("[") or bare.partition(" = ")[0].isidentifier()
        )
        # the one or the other
        if not bare.startswith("limit = "):
            lines.append(bare if is_key else line)
    return "\n".join(lines)


def keys_of(model: type[Section]) -> set[str]:
    found = set(model.model_fields)
    for field in model.model_fields.values():
        found |= {key for inner in sections_in(field.annotation) for key in keys_of(inner)}
    return found


def sections_in(annotation: object) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    inner = getattr(annotation, "__args__", ())
    return [section for one in inner for section in sections_in(one)]


def test_the_example_names_every_key_there_is() -> None:
    assert {key for key in keys_of(Document) if key not in EXAMPLE} == set()


@settings(max_examples=examples(60))
@given(trees())
def test_any_valid_document_gives_a_configuration_that_holds_together(
    tree: dict[str, Any],
) -> None:
    config = parse_config(document(tree), CAPACITY)
    assert_sound(config)
    assert list(config.profiles) == list(tree["resource_profiles"])
    assert parse_config(document(tree), CAPACITY) == config


def assert_sound(config: Config) -> None:
    cpu = config.quota.cpu - config.engine.cpu
    memory = config.quota.memory - config.engine.memory - config.engine.memory_per_container
    assert 0 < config.quota.cpu < config.capacity.cpus
    assert 0 < config.quota.memory < config.capacity.memory
    assert 0 < config.adopted.cpu <= cpu
    assert 0 < config.adopted.memory <= memory
    for one in config.profiles.values():
        assert 0 < one.cpu_limit <= (one.cpu_total or cpu) <= cpu
        assert 0 < one.mem_limit <= (one.mem_total or memory) <= memory
        assert one.mem_throttle is None or one.mem_throttle < one.mem_limit
        assert one.swap_limit <= config.quota.swap
        assert one.tasks_limit is not None
        assert one.tasks_total is None or one.tasks_limit <= one.tasks_total
    default = config.users["default"]
    assert default.allowed_resources
    assert default.allowed_docker
    for entry in (*config.users.values(), *config.groups.values()):
        for name in entry.allowed_resources or default.allowed_resources:
            assert (entry.cpu_total or cpu) >= config.profiles[name].cpu_limit
            assert (entry.mem_total or memory) >= config.profiles[name].mem_limit
