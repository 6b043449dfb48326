from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from enforcer.bootstrap import (
    Console,
    Finished,
    SystemRunner,
    ensure_packages,
    ensure_venv,
    guarded,
)
from enforcer.bootstrap.commands import Command
from enforcer.bootstrap.packages import Machine
from enforcer.bootstrap.venv import DAEMON_ONLY, Tools, without_packages
from enforcer.errors import EnforcerError, UnavailableError

CHECKOUT = Path(__file__).parents[2]
LOCK = """\
# a comment at the top
aiohttp==3.14.5 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via jupyter-enforcer (pyproject.toml)
pystemd==0.15.3 \\
    --hash=sha256:cc
    # via jupyter-enforcer (pyproject.toml)
rich==15.0.0 ; python_version >= '3.8' \\
    --hash=sha256:dd
"""


@dataclass
class FakeRunner:
    """A machine with some packages, on which some commands fail."""

    packages: set[str] = field(default_factory=set)
    failing: dict[str, int] = field(default_factory=dict)
    """Part of a command line: how many times it fails yet."""
    ran: list[str] = field(default_factory=list)
    during: Callable[[str], None] = lambda _line: None

    def run(self, command: Command, waiting: Callable[[], None]) -> Finished:
        line = " ".join(command.words)
        self.ran.append(line)
        waiting()
        self.during(line)
        for part, left in self.failing.items():
            if part in line and left:
                self.failing[part] = left - 1
                return Finished(1, f"{part} did not work\n")
        return self._succeed(command.words, line)

    def _succeed(self, words: Sequence[str], line: str) -> Finished:
        if words[0] == "dpkg-query":
            return Finished(0, "installed" if words[-1] in self.packages else "config-files")
        if " install " in line and "apt-get" in line:
            self.packages.update(words)
        if "-m venv" in line:
            (Path(words[-1]) / "bin").mkdir(parents=True)
        return Finished(0, "")

    def ran_with(self, part: str) -> int:
        return sum(part in line for line in self.ran)


def quiet() -> Console:
    return Console(io.StringIO())


def machine(*, root: bool = True, programs: Sequence[str] = ("dpkg-query", "sudo")) -> Machine:
    return Machine(
        root=root, terminal=False, find_program=lambda name: name if name in programs else None
    )


def tools(folder: Path, runner: FakeRunner, console: Console | None = None) -> Tools:
    def install_packages(packages: Sequence[str], why: str) -> None:
        ensure_packages(packages, why, runner=runner, console=quiet(), machine=machine())

    return Tools(
        runner=runner,
        console=console or quiet(),
        folder=folder / "venvs",
        install_packages=install_packages,
    )


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(LOCK)
    return path


# --- packages


def test_nothing_is_installed_when_every_package_is_there() -> None:
    runner = FakeRunner(packages={"qemu-utils"})
    ensure_packages(["qemu-utils"], "", runner=runner, console=quiet(), machine=machine())
    assert runner.ran_with("apt-get") == 0


def test_only_missing_packages_are_installed_and_named_before() -> None:
    runner, said = FakeRunner(packages={"qemu-utils"}), io.StringIO()
    ensure_packages(
        ["qemu-utils", "mmdebstrap"],
        "to build the virtual machine",
        runner=runner,
        console=Console(said),
        machine=machine(),
    )
    [install] = [line for line in runner.ran if "apt-get" in line]
    assert install.endswith("install --yes --no-install-recommends mmdebstrap")
    assert "DEBIAN_FRONTEND=noninteractive" in install
    assert "sudo" not in install
    assert said.getvalue().startswith(
        "Debian packages are needed to build the virtual machine: mmdebstrap\n"
    )


def test_a_removed_package_with_its_configuration_left_counts_as_missing() -> None:
    runner = FakeRunner()
    ensure_packages(["socat"], "", runner=runner, console=quiet(), machine=machine())
    assert runner.ran_with("install --yes") == 1


def test_stale_lists_are_fetched_once_and_the_install_tried_again() -> None:
    runner = FakeRunner(failing={" install ": 1})
    ensure_packages(["socat"], "", runner=runner, console=quiet(), machine=machine())
    applied = [line for line in runner.ran if "apt-get" in line]
    assert [" install " in line for line in applied] == [True, False, True]
    assert applied[1].endswith(" update")


@pytest.mark.parametrize(
    ("failing", "told"), [(" install ", "apt-get install failed"), (" update", "update failed")]
)
def test_a_failing_apt_is_reported_with_its_last_lines(failing: str, told: str) -> None:
    runner = FakeRunner(failing={" install ": 1, failing: 9})
    with pytest.raises(UnavailableError, match=told) as caught:
        ensure_packages(["socat"], "", runner=runner, console=quiet(), machine=machine())
    assert f"{failing} did not work" in caught.value.message
    assert caught.value.hint


def test_sudo_is_used_by_whoever_is_not_root() -> None:
    runner = FakeRunner()
    ensure_packages(["socat"], "", runner=runner, console=quiet(), machine=machine(root=False))
    assert runner.ran[-1].startswith("sudo -n env DEBIAN_FRONTEND=noninteractive apt-get")


def test_a_refusing_sudo_leaves_the_command_to_type() -> None:
    runner = FakeRunner(failing={"sudo": 9})
    with pytest.raises(UnavailableError) as caught:
        ensure_packages(["socat"], "", runner=runner, console=quiet(), machine=machine(root=False))
    assert caught.value.hint == "type: sudo apt-get install socat"
    assert runner.ran_with("apt-get") == 0


def test_without_sudo_and_without_root_the_hint_is_for_root() -> None:
    runner, here = FakeRunner(), machine(root=False, programs=("dpkg-query",))
    with pytest.raises(UnavailableError, match="there is no sudo"):
        ensure_packages(["socat"], "", runner=runner, console=quiet(), machine=here)


def test_a_machine_without_apt_is_told_what_would_do() -> None:
    with pytest.raises(UnavailableError, match="no apt"):
        ensure_packages(
            ["socat"], "", runner=FakeRunner(), console=quiet(), machine=machine(programs=())
        )


# --- the lock file


def test_an_entry_is_left_out_with_its_hashes_and_comments() -> None:
    kept = without_packages(LOCK, {"pystemd"})
    assert "pystemd" not in kept
    assert "cc" not in kept
    assert kept.count("--hash") == 3
    assert kept.startswith("# a comment at the top\naiohttp==3.14.5")


def test_what_only_the_daemon_needs_is_in_the_daemons_lock_and_not_in_the_tests() -> None:
    checkout = Path(__file__).parents[2]
    daemon = (checkout / "enforcer" / "requirements.lock").read_text()
    tests = (checkout / "tests" / "requirements.lock").read_text()
    for name in DAEMON_ONLY:
        assert f"\n{name}==" in daemon
        assert f"\n{name}==" not in tests
    assert "--index-url" not in daemon + tests


def test_the_tests_run_with_the_versions_the_daemon_runs_with() -> None:
    checkout = Path(__file__).parents[2]
    daemon, tests = (
        set(re.findall(r"^[a-z0-9-]+==[^ ]+", (checkout / lock).read_text(), re.MULTILINE))
        for lock in ("enforcer/requirements.lock", "tests/requirements.lock")
    )
    assert {pin.partition("==")[0] for pin in daemon - tests} == DAEMON_ONLY


# --- the virtual environment


def test_a_venv_is_made_once(lock: Path, tmp_path: Path) -> None:
    runner = FakeRunner()
    first = ensure_venv(lock, "to test", tools=tools(tmp_path, runner))
    second = ensure_venv(lock, "to test", tools=tools(tmp_path, runner))
    assert first == second
    assert runner.ran_with("-m venv") == 1
    assert runner.ran_with("pip install --no-deps") == 1


def test_what_will_be_installed_and_where_is_said_before(lock: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    venv = ensure_venv(lock, "to test", tools=tools(tmp_path, FakeRunner(), Console(said)))
    assert said.getvalue() == f"3 Python packages are needed to test; they go to {venv}\n"


def test_another_lock_makes_another_venv(lock: Path, tmp_path: Path) -> None:
    here = tools(tmp_path, FakeRunner())
    assert ensure_venv(lock, "", tools=here) != ensure_venv(
        lock, "", without={"pystemd"}, tools=here
    )


def test_an_interrupted_build_is_started_over(lock: Path, tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if "pip install" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_venv(lock, "", tools=tools(tmp_path, FakeRunner(during=interrupt)))
    [left] = [path for path in (tmp_path / "venvs").iterdir() if path.is_dir()]
    (left / "half-installed").touch()
    venv = ensure_venv(lock, "", tools=tools(tmp_path, FakeRunner()))
    assert venv == left
    assert not (venv / "half-installed").exists()


def test_a_failed_install_is_reported_and_tried_again_next_time(lock: Path, tmp_path: Path) -> None:
    runner = FakeRunner(failing={"pip install": 1})
    with pytest.raises(UnavailableError, match="pip install failed") as caught:
        ensure_venv(lock, "", tools=tools(tmp_path, runner))
    assert "HTTPS_PROXY" in caught.value.hint
    ensure_venv(lock, "", tools=tools(tmp_path, runner))
    assert runner.ran_with("pip install") == 2


def test_debians_missing_venv_module_is_installed(lock: Path, tmp_path: Path) -> None:
    runner = FakeRunner(failing={"import ensurepip": 1})
    ensure_venv(lock, "", tools=tools(tmp_path, runner))
    assert runner.ran_with("--no-install-recommends python3-venv") == 1


def test_a_python_that_never_gets_a_venv_module_is_reported(lock: Path, tmp_path: Path) -> None:
    runner = FakeRunner(failing={"import ensurepip": 9})
    with pytest.raises(UnavailableError, match="no ensurepip") as caught:
        ensure_venv(lock, "", tools=tools(tmp_path, runner))
    assert "/usr/bin/python3" in caught.value.hint


def test_a_folder_that_cannot_be_written_is_reported_with_the_variable_to_set(
    lock: Path, tmp_path: Path
) -> None:
    (tmp_path / "venvs").write_text("in the way")
    with pytest.raises(UnavailableError, match="cannot write") as caught:
        ensure_venv(lock, "", tools=tools(tmp_path, FakeRunner()))
    assert "XDG_CACHE_HOME" in caught.value.hint


def test_of_two_at_once_one_builds_and_the_other_waits(lock: Path, tmp_path: Path) -> None:
    building, second_waits = threading.Event(), threading.Event()

    def slow(line: str) -> None:
        if "pip install" in line:
            building.set()
            assert second_waits.wait(10)

    first, second = FakeRunner(during=slow), FakeRunner()
    thread = threading.Thread(
        target=ensure_venv, args=(lock, ""), kwargs={"tools": tools(tmp_path, first)}
    )
    thread.start()
    assert building.wait(10)
    waiter = threading.Thread(
        target=ensure_venv, args=(lock, ""), kwargs={"tools": tools(tmp_path, second)}
    )
    waiter.start()
    waiter.join(0.3)
    assert waiter.is_alive()
    second_waits.set()
    thread.join(10)
    waiter.join(10)
    assert first.ran_with("pip install") == 1
    assert second.ran == []


def test_a_venv_that_lacks_its_packages_is_not_entered_again_and_again(
    tmp_path: Path,
) -> None:
    script = (
        "import os, sys; from pathlib import Path; from enforcer.bootstrap import reexec_in;"
        f"os.environ['ENFORCER_VENV'] = {str(tmp_path)!r};"
        f"reexec_in(Path({str(tmp_path)!r}), 'enforcer', [], Path('.'))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30
    )
    assert "lacks what it should hold" in finished.stderr


# --- commands


def test_a_commands_output_and_errors_are_kept_together() -> None:
    words = (sys.executable, "-c", "import sys; print('out', flush=True); sys.exit('err')")
    finished = SystemRunner().run(Command(words=words, timeout_seconds=30), lambda: None)
    assert (finished.returncode, finished.output) == (1, "out\nerr\n")
    assert finished.tail(1) == "    err"


def test_a_command_that_takes_too_long_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="took longer than 0 s"):
        SystemRunner().run(Command(words=("sleep", "60"), timeout_seconds=0.3), lambda: None)
    assert time.monotonic() - started < 10


def test_a_command_is_ended_when_we_are_interrupted() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SystemRunner().run(Command(words=("sleep", "60"), timeout_seconds=60), interrupt)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_command_inherits_what_it_is_to_keep_open(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        words = ("readlink", f"/proc/self/fd/{file.fileno()}")
        command = Command(words=words, timeout_seconds=30, keep_open=[file.fileno()])
        assert SystemRunner().run(command, lambda: None).output == f"{tmp_path}/lock\n"


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(UnavailableError, match="cannot run no-such-program"):
        SystemRunner().run(Command(words=("no-such-program",), timeout_seconds=1), lambda: None)


# --- the console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_short_step_shows_nothing_without_a_terminal() -> None:
    said = io.StringIO()
    ticks = iter([0.0, 1.0, 1.5])
    with Console(said, clock=lambda: next(ticks)).step("Building") as waiting:
        waiting()
    assert said.getvalue() == ""


def test_a_long_step_shows_life_at_intervals_and_its_whole_time() -> None:
    said = io.StringIO()
    ticks = iter([0.0, 1.0, 3.0, 4.0, 12.9, 13.1, 20.0])
    with Console(said, clock=lambda: next(ticks)).step("Building") as waiting:
        for _ in range(5):
            waiting()
    assert said.getvalue() == "Building... 3 s\nBuilding... 13 s\nBuilding: done in 20 s\n"


def test_a_terminal_gets_a_spinner_that_is_wiped_off() -> None:
    said = Terminal()
    ticks = iter([0.0, 1.0, 1.5])
    with Console(said, clock=lambda: next(ticks)).step("Building") as waiting:
        waiting()
    assert "Building (1 s)" in said.getvalue()
    assert said.getvalue().endswith("\r\x1b[K")


def test_a_known_error_becomes_one_message_and_exit_code_1() -> None:
    def fail() -> int:
        raise EnforcerError("x", "it broke", "mend it")

    said = io.StringIO()
    assert guarded(fail, "enforcer demo", Console(said)) == 1
    assert said.getvalue() == "enforcer demo: it broke\n  What to do: mend it\n"


def test_ctrl_c_becomes_a_sentence_and_exit_code_130() -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    said = io.StringIO()
    assert guarded(interrupt, "tests", Console(said)) == 130
    assert said.getvalue().startswith("tests: interrupted")


def test_a_result_is_passed_on() -> None:
    assert guarded(lambda: 7, "tests", quiet()) == 7


@pytest.mark.parametrize(
    "words",
    ["tests", "enforcer", "enforcer install", "enforcer uninstall", "enforcer hub-config"],
)
def test_it_begins_where_there_is_nothing_but_python(words: str) -> None:
    nothing_but_python = [sys.executable, "-S", "-m", *words.split(), "--help"]
    done = subprocess.run(
        nothing_but_python, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
