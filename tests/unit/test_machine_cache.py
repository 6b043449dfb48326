from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from enforcer.errors import UnavailableError
from enforcer.machine.cache import Cache, Layer, Wish, superfluous
from enforcer.machine.progress import quiet


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def wish(
    key: str = "1",
    *,
    kind: str = "disk",
    parent: Layer | None = None,
    build: Callable[[Path], None] = lambda folder: (folder / "disk").touch(),
) -> Wish:
    return Wish(suite="trixie", kind=kind, key=key, parent=parent, build=build)


def names(cache: Cache) -> set[str]:
    return {folder.name for folder in (cache.folder / "layers").iterdir()}


def used(layer: Layer, moment: int) -> Layer:
    os.utime(layer.folder, (moment, moment))
    return layer


def fails(_: Path) -> None:
    raise KeyboardInterrupt


def test_a_layer_is_built_once(cache: Cache) -> None:
    first = cache.ensure(wish(), quiet)
    assert cache.ensure(wish(build=fails), quiet) == first
    assert (first.folder / "disk").exists()


def test_an_interrupted_build_leaves_nothing_and_can_be_started_again(cache: Cache) -> None:
    with pytest.raises(KeyboardInterrupt):
        cache.ensure(wish(build=fails), quiet)
    assert names(cache) == set()
    assert cache.ensure(wish(), quiet).name == "trixie-disk-1"


def test_what_a_killed_build_left_is_removed_by_the_next(cache: Cache) -> None:
    left = cache.folder / "layers" / ".trixie-disk-1.abc"
    left.mkdir(parents=True)
    cache.ensure(wish(), quiet)
    assert names(cache) == {"trixie-disk-1"}


def test_two_who_want_the_same_build_it_once(cache: Cache) -> None:
    built: list[str] = []
    both = threading.Barrier(2, timeout=10)

    def ensure() -> None:
        both.wait()
        cache.ensure(wish(build=lambda folder: built.append(folder.name)), quiet)

    threads = [threading.Thread(target=ensure) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(built) == 1


def test_a_disk_that_cannot_be_written_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="XDG_CACHE_HOME"):
        Cache(tmp_path / "file" / "cache").ensure(wish(), quiet)


def test_a_layer_knows_what_it_stands_on(cache: Cache) -> None:
    disk = cache.ensure(wish(), quiet)
    booted = cache.ensure(wish(kind="booted", parent=disk), quiet)
    assert [layer.name for layer in booted.chain()] == ["trixie-booted-1", "trixie-disk-1"]


def test_the_newest_two_of_each_kind_are_kept_and_what_they_stand_on(cache: Cache) -> None:
    disks = [used(cache.ensure(wish(str(n)), quiet), n) for n in range(3)]
    used(cache.ensure(wish("b", kind="booted", parent=disks[2]), quiet), 1)
    assert names(cache) == {"trixie-disk-1", "trixie-disk-2", "trixie-booted-b"}
    for key in ("3", "4"):
        cache.ensure(wish(key), quiet)
    assert names(cache) == {"trixie-disk-2", "trixie-disk-3", "trixie-disk-4", "trixie-booted-b"}


def test_a_layer_in_use_is_not_pruned(cache: Cache) -> None:
    old = used(cache.ensure(wish("old"), quiet), 0)
    with cache.use(old):
        for key in ("1", "2"):
            cache.ensure(wish(key), quiet)
        assert old.name in names(cache)
    cache.prune()
    assert old.name not in names(cache)


def test_layers_of_another_suite_do_not_count(tmp_path: Path) -> None:
    layers = [Layer(tmp_path / f"{suite}-disk-1") for suite in ("trixie", "bookworm", "noble")]
    assert superfluous(layers, kept=1) == []


def test_the_folder_of_a_run_goes_with_it(cache: Cache) -> None:
    with cache.run_folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_the_folder_of_a_killed_run_is_removed_by_a_later_one(cache: Cache) -> None:
    dead = cache.folder / "runs" / "dead"
    dead.mkdir(parents=True)
    os.utime(dead, (0, 0))
    with cache.run_folder() as living:
        os.utime(living, (0, 0))
        with cache.run_folder():
            assert not dead.exists()
            assert living.exists()
