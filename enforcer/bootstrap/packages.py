"""Debian packages, through apt: look first, say what will be installed, install only what lacks."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from enforcer.bootstrap.commands import Command, Finished, Runner, SystemRunner
from enforcer.bootstrap.console import Console
from enforcer.errors import UnavailableError

QUERY_SECONDS = 30.0
UPDATE_SECONDS = 300.0
INSTALL_SECONDS = 1200.0
PASSWORD_SECONDS = 300.0

_INSTALLED = "installed"
_NONINTERACTIVE = "DEBIAN_FRONTEND=noninteractive"
# Another apt may be at work (unattended-upgrades after boot): wait for it, do not fail.
_WAIT_FOR_LOCK = ("-o", "DPkg::Lock::Timeout=120")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine is to apt: replaced in tests."""

    root: bool = field(default_factory=lambda: os.geteuid() == 0)
    terminal: bool = field(default_factory=sys.stdin.isatty)
    find_program: Callable[[str], str | None] = shutil.which


def ensure_packages(
    packages: Sequence[str],
    why: str,
    *,
    runner: Runner | None = None,
    console: Console | None = None,
    machine: Machine | None = None,
) -> None:
    """Install the packages that are missing, saying so first.

    why: ends the sentence "…are needed ", for instance "to build the virtual machine".

    Raises:
        UnavailableError: no apt here, no right to use it, or it failed; the hint is what to type.
    """
    apt = _Apt(
        runner=SystemRunner() if runner is None else runner,
        console=Console() if console is None else console,
        machine=Machine() if machine is None else machine,
    )
    missing = apt.missing(packages)
    if missing:
        apt.install(missing, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Apt:
    runner: Runner
    console: Console
    machine: Machine

    def missing(self, packages: Sequence[str]) -> list[str]:
        if self.machine.find_program("dpkg-query") is None:
            raise UnavailableError(
                "packages.no-apt",
                f"this machine has no apt, so these cannot be checked: {' '.join(packages)}",
                "use Debian 12, Ubuntu 24.04 or later",
            )
        # One question a package: dpkg-query fails as a whole if it does not know one of them.
        return [package for package in packages if not self._is_installed(package)]

    def _is_installed(self, package: str) -> bool:
        query = ("dpkg-query", "--show", "--showformat=${db:Status-Status}", package)
        finished = self.runner.run(
            Command(words=query, timeout_seconds=QUERY_SECONDS), lambda: None
        )
        return finished.returncode == 0 and finished.output.strip() == _INSTALLED

    def install(self, missing: Sequence[str], why: str) -> None:
        by_hand = f"type: sudo apt-get install {' '.join(missing)}"
        self.console.say(f"Debian packages are needed {why}: {' '.join(missing)}")
        prefix = self._become_root(by_hand)
        words = ("install", "--yes", "--no-install-recommends", *missing)
        label = f"Installing {len(missing)} Debian packages"
        finished = self._apt(prefix, words, label, INSTALL_SECONDS)
        if finished.returncode != 0:
            # The lists of a fresh machine are empty, those of an old one name files long gone.
            update = self._apt(prefix, ("update",), "Fetching apt's lists", UPDATE_SECONDS)
            if update.returncode != 0:
                raise _failed("apt-get update", update, "look at the network and /etc/apt")
            finished = self._apt(prefix, words, label, INSTALL_SECONDS)
        if finished.returncode != 0:
            raise _failed("apt-get install", finished, by_hand)

    def _become_root(self, by_hand: str) -> tuple[str, ...]:
        """The words that go before apt's."""
        if self.machine.root:
            return ()
        if self.machine.find_program("sudo") is None:
            raise UnavailableError(
                "packages.not-root",
                "only root may install packages, and there is no sudo",
                f"as root, {by_hand}",
            )
        # Any password is asked for here, where no spinner writes over the question.
        ask = ("sudo", "--validate") if self.machine.terminal else ("sudo", "-n", "true")
        finished = self.runner.run(
            Command(words=ask, timeout_seconds=PASSWORD_SECONDS, terminal=self.machine.terminal),
            lambda: None,
        )
        if finished.returncode != 0:
            raise UnavailableError(
                "packages.no-sudo", "sudo did not let us install packages", by_hand
            )
        return ("sudo", "-n")

    def _apt(
        self, prefix: Sequence[str], words: Sequence[str], label: str, timeout_seconds: float
    ) -> Finished:
        # `env`, because sudo keeps no variable of ours.
        command = (*prefix, "env", _NONINTERACTIVE, "apt-get", "--quiet", *_WAIT_FOR_LOCK, *words)
        with self.console.step(label) as waiting:
            return self.runner.run(Command(words=command, timeout_seconds=timeout_seconds), waiting)


def _failed(what: str, finished: Finished, hint: str) -> UnavailableError:
    return UnavailableError(
        "packages.failed", f"{what} failed (exit {finished.returncode}):\n{finished.tail()}", hint
    )
