"""The command line against a served API on a real socket, its in-memory controller behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from enforcer import cli
from enforcer.bootstrap import guarded
from enforcer.cli.ask import split_name
from enforcer.errors import InvalidError
from enforcer.model import Claim, Limits, PlannedChange, ReportDrift, Usage
from tests.apiserver import ALICE, ROOT, ApiUnderTest, serving
from tests.unit.configs import VALID, parse

HOSTILE = "mal[bold]lory\u202eevil"


class Shell:
    """Types commands, reads what they print."""

    def __init__(self, api: ApiUnderTest, capsys: pytest.CaptureFixture[str]) -> None:
        self.api = api
        self._capsys = capsys
        self.errors = ""

    async def type(self, *words: str, uid: int = ROOT) -> tuple[int, str]:
        """Run a command as that uid; its exit code and what it wrote to standard output."""
        self.api.uid = uid
        socket = ("--socket", str(self.api.path))
        code = await asyncio.to_thread(
            guarded, lambda: cli.main([words[0], *socket, *words[1:]]), f"enforcer {words[0]}"
        )
        said = self._capsys.readouterr()
        self.errors = said.err
        return code, said.out

    async def ask(self, *words: str, uid: int = ROOT) -> Any:  # noqa: ANN401 - what JSON holds
        """Run it with --json; the parsed answer."""
        code, out = await self.type(*words, "--json", uid=uid)
        assert code == 0, self.errors
        return json.loads(out)

    async def claim(self, user: str, server: str = "", profile: str = "Large") -> None:
        """Have a lease that runs."""
        operations = self.api.operations
        lease, _ = await operations.claim(Claim(user=user, server=server, profile=profile))
        operations.bind(lease.id, lease.id * 2)
        operations.tick()


@pytest_asyncio.fixture
async def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Shell]:
    async with serving(parse(VALID), tmp_path) as api:
        yield Shell(api, capsys)


@pytest.mark.asyncio
async def test_status_shows_root_the_tree_and_every_lease(shell: Shell) -> None:
    await shell.claim("alice")
    await shell.claim("bob", "second", "Tiny")
    code, out = await shell.type("status")
    assert code == 0
    assert "jupyter: everything" in out
    assert "profile Large" in out
    assert "bob/second" in out
    assert "2 bound" in out


@pytest.mark.asyncio
async def test_status_shows_a_user_the_sums_and_their_own(shell: Shell) -> None:
    await shell.claim("alice")
    await shell.claim("bob")
    code, out = await shell.type("status", uid=ALICE)
    assert code == 0
    assert "alice" in out
    assert "bob" not in out
    assert "free to promise" in out


@pytest.mark.asyncio
async def test_lines_fit_eighty_columns_and_line_up(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the environment is the interface here
    monkeypatch.setenv("COLUMNS", "80")
    await shell.claim("alice")
    _, out = await shell.type("status")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    tree = [line for line in lines if " slice " in f" {line} " or "jupyter: everything" in line]
    assert len({len(line) for line in tree}) == 1


@pytest.mark.asyncio
async def test_what_is_piped_has_no_colour_no_lines_and_no_blanks_at_the_end(shell: Shell) -> None:
    await shell.claim("alice")
    for words in (("status",), ("explain", "alice")):
        _, out = await shell.type(*words)
        assert "\x1b" not in out
        assert not set(out) & set("│─┌┐└┘├┤┬┴┼━┃╭╮")
        assert not any(line.endswith(" ") for line in out.splitlines())


@pytest.mark.asyncio
async def test_json_is_the_apis_own(shell: Shell) -> None:
    await shell.claim("alice")
    told = await shell.ask("status")
    assert told["status"]["leases"]["bound"] == 1
    assert told["leases"][0]["user"] == "alice"
    assert told["slices"][0]["unit"] == "jupyter.slice"


@pytest.mark.asyncio
async def test_a_hostile_name_gives_the_terminal_no_orders(shell: Shell) -> None:
    await shell.claim(HOSTILE)
    for words in (("status",), ("explain", HOSTILE), ("explain", HOSTILE, "--json")):
        code, out = await shell.type(*words)
        assert code == 0
        assert "\u202e" not in out
        assert "mal[bold]lory\\u202eevil" in out


@pytest.mark.asyncio
async def test_open_drift_is_shown_with_what_to_type(shell: Shell) -> None:
    shell.api.operations.open_drift = (
        ReportDrift(
            what="engine-outside",
            subject="docker.service",
            message="dockerd runs outside its slice",
            command="systemctl restart docker",
        ),
    )
    shell.api.operations.tick()
    _, out = await shell.type("status")
    assert "dockerd runs outside its slice\n    systemctl restart docker" in out


@pytest.mark.asyncio
async def test_who_has_all_their_tasks_is_told_by_status_and_explain(shell: Shell) -> None:
    operations = shell.api.operations
    await shell.claim("alice")
    unit = operations.book.leases[0].unit
    for tasks, told in ((63, False), (64, True)):
        operations.limits[unit] = Limits(tasks_max=64)
        operations.usage[unit] = Usage(tasks=tasks)
        operations.tick()
        _, out = await shell.type("status")
        assert ("alice's server has all its 64 tasks" in out) is told
        _, out = await shell.type("explain", "alice")
        assert ("its own limit of 64 processes and threads is reached" in out) is told
    level = (await shell.ask("explain", "alice"))["levels"][0]
    assert (level["hold"], level["tasks"], level["tasks_limit"]) == ("tasks", 64, 64)


@pytest.mark.asyncio
async def test_explain_tells_of_myself_unless_somebody_is_named(shell: Shell) -> None:
    await shell.claim("alice", "gpu")
    told = await shell.ask("explain", uid=ALICE)
    assert (told["user"], told["lease"]) == ("alice", None)
    told = await shell.ask("explain", "alice/gpu", uid=ALICE)
    assert told["lease"]["server"] == "gpu"
    assert [level["unit"] for level in told["levels"]][-1] == "jupyter.slice"


@pytest.mark.asyncio
async def test_explain_of_somebody_else_is_refused_with_a_hint(shell: Shell) -> None:
    code, out = await shell.type("explain", "bob", uid=ALICE)
    assert (code, out) == (1, "")
    assert shell.errors.startswith("enforcer explain: ")


@pytest.mark.asyncio
async def test_explain_shows_each_right_and_its_source(shell: Shell) -> None:
    _, out = await shell.type("explain", "alice")
    assert "allowed_resources" in out
    assert "default" in out


@pytest.mark.asyncio
async def test_explain_tells_what_the_hubs_groups_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = "[group_profiles.ml]\nservers_max = 3\n[group_profiles.bio]\nservers_max = 5\n"
    async with serving(parse(VALID + groups), tmp_path) as api:
        shell = Shell(api, capsys)
        _, out = await shell.type("explain", "alice", "--group", "ml", "--group", "bio")
        assert "servers_max 5 group ml, group bio" in " ".join(out.split())
        assert (await shell.type("explain", "--group", "ml", uid=ALICE))[0] == 1
        assert "name groups" in shell.errors


@pytest.mark.asyncio
async def test_plan_ends_with_0_where_nobody_is_at_risk(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    file.write_text(VALID)
    code, out = await shell.type("plan", str(file))
    assert code == 0
    assert out.splitlines()[0].split() == ["subject", "what", "before", "after", "risk"]


@pytest.mark.asyncio
async def test_plan_ends_with_3_where_somebody_is_at_risk(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    file.write_text(VALID)
    shell.api.operations.planned = (
        PlannedChange(subject="alice", what="mem_limit", before="40", after="2", risk="uses 30"),
    )
    code, out = await shell.type("plan", str(file), "--json")
    assert code == 3
    assert json.loads(out)["changes"][0]["risk"] == "uses 30"


@pytest.mark.asyncio
async def test_plan_of_a_wrong_file_tells_each_mistake(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    file.write_text(VALID + "\n[machin]\n")
    code, _ = await shell.type("plan", str(file))
    assert code == 1
    assert "machine" in shell.errors


@pytest.mark.asyncio
async def test_reload_tells_what_changed_or_why_nothing_did(shell: Shell) -> None:
    code, out = await shell.type("reload")
    assert code == 0
    assert "40 GiB → 20 GiB" in out
    shell.api.operations.reloading = InvalidError("config.invalid", "enforcer.toml:3: wrong", "")
    code, out = await shell.type("reload")
    assert (code, out) == (1, "")
    assert "enforcer.toml:3: wrong" in shell.errors


@pytest.mark.asyncio
async def test_reload_is_for_root_alone(shell: Shell) -> None:
    assert (await shell.type("reload", uid=ALICE))[0] == 1


def test_without_a_daemon_there_is_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["status", "--socket", str(tmp_path / "none.sock")]
    assert guarded(lambda: cli.main(words), "enforcer status") == 1
    said = capsys.readouterr().err
    assert "there is no such socket" in said
    assert "What to do: systemctl status enforcer" in said


@pytest.mark.parametrize(
    "words",
    [
        ["check"],
        ["status", "--nonsense"],
        ["status", "--watch", "0"],
        ["explain", "a", "b"],
        ["demo", "--suite", "sarge"],
        ["demo", "--json"],
        ["run", "extra"],
    ],
)
def test_wrong_words_end_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert "usage: enforcer" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check", "plan", "status", "explain", "reload", "demo"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"usage: enforcer {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("who", "server", "found"),
    [
        (None, None, (None, "")),
        ("alice", None, ("alice", "")),
        ("alice/gpu", None, ("alice", "gpu")),
        ("alice/gpu/2", None, ("alice", "gpu/2")),
        ("a/b", "", ("a/b", "")),
        ("a/b", "gpu", ("a/b", "gpu")),
    ],
)
def test_a_server_is_named_after_a_slash_or_by_itself(
    who: str | None, server: str | None, found: tuple[str | None, str]
) -> None:
    assert split_name(who, server) == found
