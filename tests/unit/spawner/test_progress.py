"""Progress lines and pull reports."""

from __future__ import annotations

import asyncio

import pytest

from spawner.progress import Progress
from spawner.pulls import PullReport


async def said(progress: Progress) -> list[object]:
    return [event["message"] async for event in progress.follow()]


@pytest.mark.asyncio
async def test_everyone_who_watches_is_told_everything_from_the_beginning() -> None:
    progress = Progress()
    progress.begin()
    progress.tell(10, "first")
    early = asyncio.create_task(said(progress))
    await asyncio.sleep(0)
    progress.tell(20, "second")
    progress.tell(20, "second")
    late = asyncio.create_task(said(progress))
    await asyncio.sleep(0)
    progress.tell(30, "third")
    progress.end()
    assert await early == await late == ["first", "second", "third"]


@pytest.mark.asyncio
async def test_a_line_takes_the_place_of_the_last_on_its_topic() -> None:
    progress = Progress()
    progress.begin()
    progress.tell(10, "asking")
    watching = asyncio.create_task(said(progress))
    for place in (3, 2, 1):
        progress.tell(40, f"number {place}", "queue")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    progress.tell(70, "starting")
    progress.end()
    assert await watching == ["asking", "number 3", "number 2", "number 1", "starting"]
    assert await said(progress) == ["asking", "number 1", "starting"]


@pytest.mark.asyncio
async def test_the_next_start_begins_without_the_lines_of_the_last() -> None:
    progress = Progress()
    progress.begin()
    progress.tell(10, "old")
    progress.end()
    progress.begin()
    progress.tell(10, "new")
    progress.end()
    assert await said(progress) == ["new"]


def test_a_pull_tells_how_far_it_is() -> None:
    report = PullReport("lab/base:1")
    assert report.text() == "Fetching the image lab/base:1"
    for event in (
        {"status": "Pulling from lab/base", "id": "1"},
        {"status": "Already exists", "progressDetail": {}, "id": "a"},
        {"status": "Pulling fs layer", "progressDetail": {}, "id": "b"},
        {"status": "Downloading", "progressDetail": {"current": 2**20, "total": 2**22}, "id": "b"},
        "nonsense",
        {"status": "Downloading", "progressDetail": {"current": "x"}, "id": "c"},
    ):
        report.add(event)
    assert report.text() == "Fetching the image lab/base:1: 1 of 3 layers, 1 MiB of 4 MiB"
    report.add({"status": "Download complete", "progressDetail": {}, "id": "b"})
    report.add({"status": "Pull complete", "progressDetail": {}, "id": "b"})
    assert report.text() == "Fetching the image lab/base:1: 2 of 3 layers, 4 MiB of 4 MiB"
    report.add({"error": "disk full", "errorDetail": {}})
    assert report.error == "disk full"
