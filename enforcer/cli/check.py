"""`enforcer check FILE`: every mistake at once, or what the file comes to on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from enforcer.adapters.host import PsutilHost
from enforcer.cli.output import print_json, show
from enforcer.cli.words import parser
from enforcer.config import ConfigError, Mistake, parse_config
from enforcer.errors import InvalidError, UnavailableError
from enforcer.model import Capacity, Config
from enforcer.quantities import CORE, PAGE, Bytes, Cpus, parse_bytes
from enforcer.show.text import BAD, cores, left, memory, right, table, word

MOST_BYTES = 1024 * 1024


def main(words: Sequence[str]) -> int:
    """Check a configuration; 0 if it is right, 1 if not."""
    options = _parser().parse_args(words)
    text = read_text(options.file)
    source = "standard input" if options.file == "-" else options.file
    try:
        config = parse_config(text, described_capacity(options), source=source)
    except ConfigError as error:
        if options.json:
            print_json({"valid": False, "mistakes": [asdict(one) for one in error.mistakes]})
        else:
            show(mistakes_view(error.mistakes, source))
        return 1
    if options.json:
        print_json({"valid": True, **_numbers(config)})
    else:
        show(_view(config, source))
    return 0


def read_text(file: str) -> str:
    """Read a file, or standard input for "-".

    Raises:
        UnavailableError: ``file.unreadable``.
        InvalidError: ``file.not-utf8``, ``file.too-large``.
    """
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise UnavailableError(
            "file.unreadable",
            f"cannot read {file}: {error.strerror}",
            "name a file that is there and that you may read",
        ) from error
    if len(raw) > MOST_BYTES:
        raise InvalidError(
            "file.too-large", f"{file} is larger than 1 MiB", "is it the right file?"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidError(
            "file.not-utf8",
            f"{file} is not UTF-8: byte {error.start} is {raw[error.start]:#04x}",
            "save it as UTF-8, which TOML asks for",
        ) from None


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "check",
        "Say everything that is wrong with a configuration, each with its line; or what its"
        " quantities come to. It changes nothing, and needs neither root nor the daemon.",
        "Percentages are of this machine, unless another one is described.",
    )
    made.add_argument("file", metavar="FILE", help="the configuration; - is standard input")
    add_machine(made)
    return made


def add_machine(made: argparse.ArgumentParser) -> None:
    """Let another machine than this one be described."""
    made.add_argument("--cores", type=int, metavar="N", help="check it for a machine of N cores")
    made.add_argument("--memory", metavar="AMOUNT", help='of so much memory, such as "512G"')
    made.add_argument("--swap", metavar="AMOUNT", help="and of so much swap")


def described_capacity(options: argparse.Namespace) -> Capacity:
    """Return this machine's capacity, or that of the one the flags describe.

    Raises:
        InvalidError: a flag makes no sense.
    """
    capacity = PsutilHost().capacity()
    if options.cores is not None:
        if options.cores < 1:
            raise InvalidError(
                "cores.invalid", f"--cores {options.cores} is no machine", "1 or more"
            )
        capacity = replace(capacity, cores=options.cores, online=())
    if options.memory is not None:
        capacity = replace(capacity, memory=parse_bytes(options.memory))
        if capacity.memory < PAGE:
            raise InvalidError(
                "memory.invalid", f"--memory {options.memory} is no machine", "such as 512G"
            )
    if options.swap is not None:
        capacity = replace(capacity, swap=parse_bytes(options.swap))
    return capacity


def mistakes_view(mistakes: Sequence[Mistake], file: str) -> RenderableType:
    """Show every mistake, each with its line."""
    number = len(mistakes)
    head = f"{file}: {number} mistake{'' if number == 1 else 's'}"
    return Group(word(head, BAD), *(word(f"  {one.sentence(file)}") for one in mistakes))


def _view(config: Config, file: str) -> RenderableType:
    cap = config.capacity
    machine = f"{cap.cores} cores, {memory(cap.memory)} of memory, {memory(cap.swap)} of swap"
    return Group(
        word(f"{file} is right. On a machine of {machine} it means:"),
        Text(),
        _quotas(config),
        Text(),
        _profiles(config),
        Text(),
        _users(config),
    )


def _workload(config: Config) -> tuple[Cpus, Bytes]:
    quota, engine = config.quota, config.engine
    return Cpus(quota.cpu - engine.cpu), Bytes(quota.memory - engine.memory)


def _quotas(config: Config) -> Table:
    quota, engine, adopted = config.quota, config.engine, config.adopted
    cap = config.capacity
    cpu, most = _workload(config)
    rows: Sequence[tuple[str, int, int, int | None, int | None]] = (
        ("kept for the host", cap.cpus - quota.cpu, cap.memory - quota.memory, None, None),
        ("Jupyter, all of it", quota.cpu, quota.memory, quota.swap, quota.tasks),
        ("  dockerd, at least", engine.cpu, engine.memory, None, None),
        ("  containers, at most", cpu, most, quota.swap, quota.tasks),
        ("    those not asked for", adopted.cpu, adopted.memory, adopted.swap, adopted.tasks),
    )
    made = table(*left("level"), *right("CPU", "memory", "swap", "tasks"))
    for name, cpus, amount, swap, tasks in rows:
        made.add_row(name, _cores(cpus), memory(amount), memory(swap), _count(tasks))
    return made


def _profiles(config: Config) -> Table:
    headings = ("CPU", "memory", "swap", "tasks", "CPU of all", "memory of all")
    made = table(*left("profile"), *right(*headings), *left("admission"))
    for name, one in config.profiles.items():
        made.add_row(
            word(name),
            _cores(one.cpu_limit),
            memory(one.mem_limit),
            memory(one.swap_limit),
            _count(one.tasks_limit),
            _cores(one.cpu_total),
            memory(one.mem_total),
            str(one.admission or config.admission.mode),
        )
    return made


def _users(config: Config) -> Table:
    made = table(*left("who", "profiles", "images"), *right("CPU guaranteed", "memory guaranteed"))
    entries = [(name, one) for name, one in config.users.items()]
    entries += [(f"group {name}", one) for name, one in config.groups.items()]
    for name, one in entries:
        made.add_row(
            word(name),
            _listed(one.allowed_resources),
            _listed(one.allowed_docker),
            _cores(one.max_cpu_guarantee, "default's"),
            memory(one.max_mem_guarantee, "default's"),
        )
    return made


def _listed(names: Sequence[str] | None) -> Text:
    return word("default's" if names is None else ", ".join(names) or "none")


def _cores(amount: int | None, missing: str = "-") -> str:
    return cores(None if amount is None else amount / CORE, missing)


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _numbers(config: Config) -> Mapping[str, Any]:
    """Return it for programs: CPU in cores, memory in bytes, as in the API."""
    cpu, most = _workload(config)
    capacity = config.capacity
    return {
        "capacity": {
            "cpu": capacity.cores,
            "memory": capacity.memory,
            "swap": capacity.swap,
        },
        "quota": _amounts(asdict(config.quota)),
        "engine": _amounts(asdict(config.engine)),
        "workload": {"cpu": cpu / CORE, "memory": most},
        "adopted": _amounts(asdict(config.adopted)),
        "resource_profiles": {k: _amounts(asdict(v)) for k, v in config.profiles.items()},
        "docker_profiles": dict(config.images),
        "user_profiles": {k: _amounts(asdict(v)) for k, v in config.users.items()},
        "group_profiles": {k: _amounts(asdict(v)) for k, v in config.groups.items()},
        "volumes_ro": list(config.volumes_ro),
        "admission": asdict(config.admission),
        "daemon": asdict(config.daemon),
    }


_CPU_KEYS = frozenset({"cpu", "cpu_limit", "cpu_total", "max_cpu_guarantee"})


def _amounts(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value / CORE if key in _CPU_KEYS and value is not None else value
        for key, value in fields.items()
    }
