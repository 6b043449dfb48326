from __future__ import annotations

import struct
from pathlib import Path

from enforcer.adapters.inotify import Event, Inotify, Mask, parse_record, split_records

ALL = Mask.MODIFY | Mask.CREATE | Mask.DELETE


def test_a_write_to_a_file_is_seen_by_the_watch_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    with Inotify() as inotify:
        watch = inotify.add(str(tmp_path), ALL)
        (tmp_path / "memory.max").write_text("4096\n")
        events = inotify.read()
    assert watch is not None
    assert {(event.watch, event.name) for event in events} == {(watch, "memory.max")}
    assert all(Mask.MODIFY in event.mask for event in events)


def test_a_directory_that_comes_and_goes_is_seen(tmp_path: Path) -> None:
    with Inotify() as inotify:
        inotify.add(str(tmp_path), ALL)
        (tmp_path / "a.slice").mkdir()
        (tmp_path / "a.slice").rmdir()
        events = inotify.read()
    assert [event.name for event in events] == ["a.slice", "a.slice"]
    assert [Mask.CREATE in event.mask for event in events] == [True, False]
    assert all(Mask.ISDIR in event.mask for event in events)


def test_what_was_written_again_and_again_is_told_once(tmp_path: Path) -> None:
    with Inotify() as inotify:
        watch = inotify.add(str(tmp_path), Mask.MODIFY)
        files = [(tmp_path / name).open("wb", buffering=0) for name in ("one", "two")]
        for file in files * 3:
            file.write(b"x")
        events = inotify.read()
        files[0].write(b"x")
        again = inotify.read()
        for file in files:
            file.close()
    assert [(event.watch, event.name) for event in events] == [(watch, "one"), (watch, "two")]
    assert [event.name for event in again] == ["one"]


def test_reading_when_nothing_has_happened_returns_at_once(tmp_path: Path) -> None:
    with Inotify() as inotify:
        inotify.add(str(tmp_path), ALL)
        assert inotify.read() == []


def test_a_directory_that_vanished_meanwhile_is_a_value(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Inotify() as inotify:
        assert inotify.add(str(tmp_path / "gone"), ALL) is None
        assert inotify.add(str(tmp_path / "file"), ALL) is None


def test_the_end_of_a_watched_directory_ends_its_watch(tmp_path: Path) -> None:
    below = tmp_path / "a.slice"
    below.mkdir()
    with Inotify() as inotify:
        watch = inotify.add(str(below), ALL)
        below.rmdir()
        events = inotify.read()
    assert events[-1].watch == watch
    assert Mask.IGNORED in events[-1].mask


def test_a_closed_instance_has_no_events(tmp_path: Path) -> None:
    inotify = Inotify()
    inotify.add(str(tmp_path), ALL)
    inotify.close()
    inotify.close()
    assert inotify.read() == []
    assert inotify.fileno() == -1


def test_names_lose_their_padding_and_overflow_has_none() -> None:
    buffer = struct.pack("iIII", 1, Mask.MODIFY, 0, 16) + b"cpu.max".ljust(16, b"\0")
    buffer += struct.pack("iIII", -1, Mask.OVERFLOW, 0, 0)
    assert [parse_record(record) for record in split_records(buffer)] == [
        Event(1, Mask.MODIFY, "cpu.max"),
        Event(-1, Mask.OVERFLOW, ""),
    ]
