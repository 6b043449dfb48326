"""What the tests of the kernel's adapter share: a cgroup tree of files, and who reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from enforcer.adapters.cgroupfs import CgroupFs
from tests.unit.cgrouptrees import TREE, Ticking, build


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build(tmp_path / "cgroup", TREE)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return build(tmp_path / "proc", {})


@pytest.fixture
def kernel(root: Path, proc: Path) -> Iterator[CgroupFs]:
    kernel = CgroupFs(root, proc, clock=Ticking())
    yield kernel
    kernel.close()
