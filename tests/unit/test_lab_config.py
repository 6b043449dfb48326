"""The configuration of JupyterLab's server in the demo's image, as traitlets reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from traitlets.config.loader import Config, PyFileConfigLoader

import enforcer.machine

FILE = Path(enforcer.machine.__file__).with_name("jupyter_server_config.py")
MIB = 1 << 20
MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return the file as it is, but for another folder in the container's cgroup's place."""
    text = FILE.read_text()
    assert text.count("/sys/fs/cgroup/") == 1
    copy = tmp_path / FILE.name
    copy.write_text(text.replace("/sys/fs/cgroup/", f"{tmp_path}/"))
    return copy


@pytest.fixture
def display(copy: Path) -> Config:
    loaded: Config = PyFileConfigLoader(copy.name, str(copy.parent)).load_config()
    shown = loaded.ResourceUseDisplay
    assert isinstance(shown, Config)
    return shown


def test_the_memory_limit_is_the_containers_own_at_the_moment(
    display: Config, tmp_path: Path
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(f"{64 * MIB}\n")
    # as the status bar asks, and as its metrics for Prometheus do
    assert display.mem_limit(rss=5, pss=None) == display.mem_limit(rss=5) == 64 * MIB
    limit.write_text(f"{96 * MIB}\n")
    assert display.mem_limit(rss=5) == 96 * MIB


def test_without_a_limit_the_machines_memory_is_the_limit(display: Config, tmp_path: Path) -> None:
    for unlimited in ("max\n", f"{2 * MACHINE}\n"):
        (tmp_path / "memory.max").write_text(unlimited)
        assert display.mem_limit(rss=5) == MACHINE


@pytest.mark.parametrize(
    ("environment", "expected"), [({"MEM_LIMIT": f"{32 * MIB}"}, 32 * MIB), ({}, MACHINE)]
)
def test_without_a_cgroup_of_its_own_it_is_the_limit_of_the_start(
    copy: Path, environment: dict[str, str], expected: int
) -> None:
    program = (
        "from traitlets.config.loader import PyFileConfigLoader as Loader;"
        f"c = Loader({copy.name!r}, {str(copy.parent)!r}).load_config();"
        "print(c.ResourceUseDisplay.mem_limit(rss=5))"
    )
    said = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert int(said) == expected


def test_people_are_warned_of_memory_and_not_of_cpu(display: Config) -> None:
    assert 0 < display.mem_warning_threshold < 1
    assert display.track_cpu_percent is True
    assert display.cpu_warning_threshold == 0
    assert "cpu_limit" not in display
