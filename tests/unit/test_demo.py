"""The demo's plain parts: numbers that fit the machine, docker's words, promises judged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import cast

import pytest

from enforcer import cli, demo
from enforcer.api.types import PlacementReply
from enforcer.config import parse_config
from enforcer.demo import probe, promises, scenario
from enforcer.demo.play import Play, Story
from enforcer.demo.stage import Stage
from enforcer.errors import UnavailableError
from enforcer.machine.hub import GROUP, LAB_IMAGE, LAB_VENV, PEOPLE
from enforcer.model import Capacity, Claim, Config
from enforcer.names import UnitName, ancestors
from enforcer.policy import check_claim, rights
from enforcer.quantities import CORE, GIB, MIB, Bytes

DEMO = Path(scenario.__file__).parent
LEAF = UnitName("jupyter-workload-Guaranteed-erin-default.slice")


def config() -> Config:
    capacity = Capacity(cores=2, memory=Bytes(3900 * MIB), swap=Bytes(2 * GIB))
    return parse_config((DEMO / "enforcer.toml").read_text(), capacity)


def test_its_configuration_is_right_for_its_machine() -> None:
    assert set(config().profiles) == {"Small", "Large", "Guaranteed", "Lab"}


def test_those_who_log_in_to_the_hub_may_have_jupyterlab_in_their_homes() -> None:
    told = config()
    for person in PEOPLE:
        may = rights(told, person, (GROUP,), ())
        check_claim(told, may, Claim(user=person, profile="Lab", image="JupyterLab"))
        assert may.home == f"/home/{person}"
    assert told.images["JupyterLab"] == LAB_IMAGE
    assert LAB_VENV in told.volumes_ro


def test_five_users_in_three_profiles_may_all_have_what_they_claim() -> None:
    told = config()
    claims = [part.claim for part in scenario.CAST]
    assert len({claim.user for claim in claims}) == 5
    assert {claim.profile for claim in claims} == {"Small", "Large", "Guaranteed"}
    for claim in claims:
        check_claim(told, rights(told, claim.user, (), ()), claim)


def test_quotas_are_reached_one_after_another_and_then_all_at_once() -> None:
    told = config()
    workload = told.quota.cpu - told.engine.cpu
    small, large = told.profiles["Small"], told.profiles["Large"]
    assert large.cpu_total is not None
    # ada's own and her neighbours' profile run out before the workload's does…
    assert small.cpu_limit + large.cpu_total < workload
    # …which does with erin's.
    assert small.cpu_limit + large.cpu_total + told.profiles["Guaranteed"].cpu_limit > workload


def test_a_container_starts_with_the_arguments_of_its_placement() -> None:
    placement = PlacementReply(
        cgroup_parent="jupyter-workload-Small-ada-default.slice",
        image="enforcer-demo:latest",
        labels={"label": "x=y z"},
        nano_cpus=500_000_000,
        memory=256 * MIB,
        memory_swap=256 * MIB,
        pids_limit=4096,
        shm_size=None,
        oom_score_adj=-5,
        volumes_ro=["/usr"],
        home=None,
    )
    words = scenario.docker_run(scenario.ADA, placement)
    assert words[:5] == ["docker", "run", "--detach", "--name", "demo-ada"]
    assert "--cgroup-parent=jupyter-workload-Small-ada-default.slice" in words
    assert "--label=label=x=y z" in words
    assert "--cpus=0.5" in words
    assert f"--memory={256 * MIB}" in words
    assert f"--memory-swap={256 * MIB}" in words
    assert "--pids-limit=4096" in words
    assert "--oom-score-adj=-5" in words
    assert "--volume=/usr:/usr:ro" in words
    assert words[words.index("enforcer-demo:latest") + 1 :] == list(scenario.ADA.program)


@pytest.mark.parametrize("part", scenario.CAST, ids=lambda part: part.user)
def test_what_the_containers_run_is_well_formed(part: scenario.Part) -> None:
    shell, flag, script = part.program
    if shell == "sh":
        subprocess.run(["sh", "-n", flag, script], check=True, timeout=10)
    else:
        compile(script, part.user, "exec")


def test_the_measurements_are_made_where_nothing_of_ours_is_installed() -> None:
    imports = [
        line
        for line in (DEMO / "probe.py").read_text().splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert not any("enforcer" in line or "rich" in line for line in imports)


def test_cpu_is_measured_by_the_counters_difference(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 1000000\nuser_usec 1\n")
    assert probe.measure_cpu(0.01, [str(tmp_path)]) == {"cores": {str(tmp_path): 0.0}}


def test_a_drift_that_nobody_undoes_is_told(tmp_path: Path) -> None:
    file = tmp_path / "memory.max"
    file.write_text("100\n")
    told = _drift(file, "sh", "-c", f"echo max > {file}")
    assert told["undone"] is False
    assert (told["wanted"], told["found"]) == ("100", "max")


def test_a_drift_that_is_undone_is_timed(tmp_path: Path) -> None:
    file = tmp_path / "memory.max"
    file.write_text("100\n")
    told = _drift(file, "sh", "-c", f"echo max > {file}; sleep 0.2; echo 100 > {file}")
    assert told["undone"] is True
    assert 0.15 < float(str(told["seconds"])) < 2


def _drift(file: Path, *words: str) -> dict[str, object]:
    """Run the probe the way the guest does; it gives up sooner."""
    script = (
        "import sys, runpy; from enforcer.demo import probe;"
        " probe.GIVE_UP_SECONDS = 1.5; sys.exit(probe.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "drift", str(file), *words],
        capture_output=True,
        check=True,
        timeout=30,
    )
    told: dict[str, object] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(
    ("cores", "shown"), [(0.5, "50000 100000"), (1.75, "175000 100000"), (12, "1200000 100000")]
)
def test_a_quota_is_what_systemd_writes(cores: float, shown: str) -> None:
    assert promises.cpu_max(cores) == shown


@pytest.mark.parametrize(
    ("used", "kept"), [(0.979, False), (0.981, True), (1.0, True), (1.019, True), (1.021, False)]
)
def test_a_quota_is_kept_within_two_percent(used: float, *, kept: bool) -> None:
    assert promises.within("x", 1.0, used).kept is kept


@pytest.mark.parametrize("kept", [True, False])
def test_one_broken_promise_is_exit_code_1(
    *, kept: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [promises.same("one", 1, 1), promises.same("two", 2, 2 if kept else 3)]
    monkeypatch.setattr(demo, "check", lambda _suite: iter(told))
    assert cli.main(["demo", "--check", "--json"]) == (0 if kept else 1)
    said = json.loads(capsys.readouterr().out)
    assert said["kept"] is kept
    assert [one["kept"] for one in said["promises"]] == [True, kept]
    assert cli.main(["demo", "--check"]) == (0 if kept else 1)
    assert "two" in capsys.readouterr().out


def test_a_check_that_breaks_off_shows_what_it_had_and_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks_off(_suite: str) -> Iterator[promises.Verdict]:
        yield promises.same("one", 1, 1)
        raise UnavailableError("x", "the machine is gone")

    monkeypatch.setattr(demo, "check", breaks_off)
    with pytest.raises(UnavailableError):
        cli.main(["demo", "--check", "--json"])
    assert json.loads(capsys.readouterr().out)["kept"] is False


class Nobody:
    """A stage on which nothing happens."""

    def client(self) -> AbstractContextManager[Nobody]:
        return nullcontext(self)

    def place(self, client: Nobody, part: scenario.Part) -> None:
        """Whoever enters is gone again."""

    def leases(self, _user: str) -> list[object]:
        return []

    def receipts(self, _user: str, _limit: int) -> list[object]:
        return []


def test_the_play_ends_when_it_is_stopped() -> None:
    playing = Play(cast("Stage", Nobody()), Story())
    playing.start()
    playing.stop()
    assert not playing.is_alive()


def test_floors_that_add_up_are_kept_and_others_are_not() -> None:
    floor = 320 * MIB
    chain = [(LEAF, floor), *((unit, floor) for unit in ancestors(LEAF))]
    assert promises.floors_add_up(chain, LEAF, floor).kept
    lower = [(unit, floor - (unit == "jupyter.slice")) for unit, _ in chain]
    assert not promises.floors_add_up(lower, LEAF, floor).kept
    engine = UnitName("jupyter-engine.slice")
    assert not promises.floors_add_up([*chain, (engine, MIB)], LEAF, floor).kept


def test_a_repair_that_takes_longer_than_a_second_is_a_broken_promise() -> None:
    assert promises.undone("x", "1", "max", 0.9, back=True).kept
    assert not promises.undone("x", "1", "max", 1.1, back=True).kept
    assert not promises.undone("x", "1", "max", 0.1, back=False).kept
    # unless the machine takes longer for any change of that kind
    assert promises.undone("x", "1", "max", 1.1, back=True, change_seconds=1.2).kept
    assert not promises.undone("x", "1", "max", 1.1, back=True, change_seconds=0.9).kept


def test_a_command_is_timed_by_the_median() -> None:
    took = probe.time_command(3, ["sleep", "0.1"])["seconds"]
    assert isinstance(took, float)
    assert took >= 0.1


def test_the_guarantee_is_three_quarters_of_a_core() -> None:
    assert scenario.ERIN.claim.cpu_guarantee == CORE * 3 // 4
