"""The steps of the one test command: what each runs, and the table at the end."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

HURRIED = "hurried"
"""The hypothesis profile of `--fast`."""
PURE_TIER = "the pure tier"
LINT_SECONDS = 300.0
_ENDING_SECONDS = 30.0

# It has a script but cannot be run with -m, and the script's place is nobody's business.
_IMPORT_LINTER = "import sys; from importlinter.cli import lint_imports as run; sys.exit(run())"

_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed|warnings?)")

# Flags of pytest that leave the choice of tests alone, so that coverage can still be judged.
_HARMLESS = frozenset({"--long", "-x", "-v", "-vv", "-q", "-s", "-l"})

_MACHINE_FOLDER = "tests/machine"
_BROWSER_FOLDER = "tests/browser"
_HUB_FOLDER = "tests/hub"
_HOST_FOLDERS = ("tests/unit", "tests/contract")
_QUICK = "not machine and not browser and not hub"
_NOTHING_CHOSEN = 5  # pytest's code when -k, say, leaves no test

_EPILOG = """\
The steps: ruff (lint and format), mypy, import-linter; then pytest with the unit and contract tests
and, without --fast, those with a whole hub, with a browser, and with a virtual machine; what these
need is installed with apt. What comes after a step of pytest that failed is left out.

--long adds the tests that take minutes each where the virtual machine is emulated, that is without
KVM, and those on an older Debian: the whole then takes some hours there, in place of some twenty
minutes.

Every other word goes to pytest: -k, -x, --lf, paths, tests/unit/test_x.py::test_y. The linters run
all the same: they keep caches and take few seconds. When pytest runs all of the unit tests, these
must cover every branch of the pure tier; but not with --fast, which also tries properties on fewer
examples.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for: pytest's own words, the paths among them, and whether to be fast."""

    fast: bool
    words: tuple[str, ...]
    paths: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing was left out of the unit tests."""
        return set(self.words) <= _HARMLESS

    @property
    def covered(self) -> bool:
        """Whether every branch must have been taken."""
        return self.whole and not self.fast

    @property
    def slow(self) -> bool:
        """Whether browser or machine tests may run."""
        chosen = [Path(path.partition("::")[0]).resolve() for path in self.paths]
        slow = (_HUB_FOLDER, _BROWSER_FOLDER, _MACHINE_FOLDER)
        folders = [Path(folder).resolve() for folder in slow]
        return not self.fast and (
            not chosen
            or any(
                path.is_relative_to(folder) or folder.is_relative_to(path)
                for path in chosen
                for folder in folders
            )
        )


@dataclass(frozen=True, slots=True)
class Result:
    """How one step ended; output is for those that print nothing by themselves."""

    step: str
    verdict: str
    seconds: float
    output: str = ""

    @property
    def failed(self) -> bool:
        """Whether it makes the whole fail."""
        return self.verdict == "FAILED"


def parse(argv: Sequence[str]) -> Request:
    """Read the command line; --help and its exit are argparse's."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests",
        usage="python3 -m tests [--fast | --long] [pytest's options and paths]",
        description="Runs every check there is and prints one summary.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--fast", action="store_true", help="no hub, browser or virtual machine")
    known, words = parser.parse_known_args(argv)
    paths = [
        word
        for word in words
        if not word.startswith("-") and Path(word.partition("::")[0]).exists()
    ]
    return Request(fast=known.fast, words=tuple(words), paths=tuple(paths))


def run(request: Request, checkout: Path) -> int:
    """Run the steps that were asked for and print the table; 0 if all passed, else 1."""
    results = _lint(checkout)
    if request.slow:
        results.append(_host_packages())
        if results[-1].failed:
            request = replace(request, fast=True)
    # what -k or --lf leaves may need no machine
    early = request.slow and request.whole and not request.paths
    with _machine_in_the_making(checkout) if early else nullcontext():
        tests, closing_line = _tests(request, checkout)
    results += tests
    if request.covered:
        results.append(_coverage(checkout, tests_failed=tests[0].failed))
    _print_table(results)
    print(closing_line, flush=True)
    return 1 if any(result.failed for result in results) else 0


def _lint(checkout: Path) -> list[Result]:
    """The linters, two at a time; what they have to say if they fail."""
    python = (sys.executable, "-m")
    steps = {
        "mypy": (*python, "mypy"),
        "import-linter": (sys.executable, "-c", _IMPORT_LINTER),
        "ruff check": (*python, "ruff", "check", "--quiet", "."),
        "ruff format": (*python, "ruff", "format", "--check", "--quiet", "."),
    }
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda step: _quiet_step(step, steps[step], checkout), steps))


def _quiet_step(step: str, words: Sequence[str], checkout: Path) -> Result:
    """A step whose output matters only if it fails."""
    started = time.monotonic()
    try:
        finished = subprocess.run(
            words, cwd=checkout, capture_output=True, text=True, check=False, timeout=LINT_SECONDS
        )
    except subprocess.TimeoutExpired:
        verdict, output = "FAILED", f"took longer than {LINT_SECONDS:.0f} s"
    else:
        verdict = "passed" if finished.returncode == 0 else "FAILED"
        output = finished.stdout + finished.stderr
    result = Result(step, verdict, time.monotonic() - started, output)
    shown = f"\n{output.rstrip()}" if result.failed else ""
    print(f"{step}: {verdict} ({result.seconds:.1f} s){shown}", flush=True)
    return result


def _host_packages() -> Result:
    """What the browser tests and the virtual machine need on this host."""
    from enforcer import machine
    from enforcer.bootstrap import ensure_packages
    from enforcer.errors import EnforcerError
    from tests import browser

    started = time.monotonic()
    verdict = "passed"
    try:
        ensure_packages(browser.HOST_PACKAGES, "to look at the hub's pages")
        ensure_packages(machine.HOST_PACKAGES, "to build and run the virtual machine")
    except EnforcerError as error:
        print(f"No browser and machine tests: {error.message}", flush=True)
        print(f"  What to do: {error.hint}", flush=True)
        verdict = "FAILED"
    return Result("host packages", verdict, time.monotonic() - started)


@contextmanager
def _machine_in_the_making(checkout: Path) -> Iterator[None]:
    """Have the virtual machine built while the tests that need none run.

    It gives way to them, and is only ahead of its time: the first test that needs the machine waits
    for it, shows that, and builds it again, aloud, if this came to nothing.
    """
    words = ("nice", "-n", "10", sys.executable, "-m", "tests.machine.ahead")
    with subprocess.Popen(
        words,
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C reaches it once, from here
    ) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)  # as Ctrl-C: what it started ends too
            try:
                process.wait(_ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _tests(request: Request, checkout: Path) -> tuple[list[Result], str]:
    """Each part of the tests, until one fails; their results, and one closing line for all."""
    results: list[Result] = []
    counts: Counter[str] = Counter()
    for step, words in _parts(request, checkout).items():
        started = time.monotonic()
        returncode, last = _forward(words, checkout)
        counts.update({what: int(count) for count, what in _COUNT.findall(last)})
        passed = returncode in {0, _NOTHING_CHOSEN}
        verdict = "passed" if passed else "FAILED"
        results.append(Result(step, verdict, time.monotonic() - started))
        if not passed:
            break
    if not results[-1].failed and not counts:
        results[-1] = replace(results[-1], verdict="FAILED", output="no test was chosen")
    seconds = sum(result.seconds for result in results)
    said = ", ".join(f"{count} {what}" for what, count in counts.items()) or "no tests ran"
    return results, f"===== {said} in {seconds:.2f}s ====="


def _parts(request: Request, checkout: Path) -> dict[str, list[str]]:
    """The calls of pytest, by what they are called in the table."""
    pytest = [sys.executable, "-m", "pytest", *request.words]
    if sys.stdout.isatty():
        pytest.append("--color=yes")
    if request.fast:
        pytest.append(f"--hypothesis-profile={HURRIED}")
    if request.paths:
        return {"pytest": [*pytest, *(("-m", _QUICK) if request.fast else ())]}
    coverage = ("--cov", "--cov-report=") if request.covered else ()
    # these are many, and half their time is waiting; the others share a browser or a machine
    parts = {
        "unit and contract tests": [*pytest, "-n4", "--dist=worksteal", *coverage, *_HOST_FOLDERS]
    }
    if not request.fast:
        parts["hub and browser tests"] = [*pytest, _HUB_FOLDER, _BROWSER_FOLDER]
        parts["machine tests"] = [*pytest, _MACHINE_FOLDER]
    return {step: words for step, words in parts.items() if (checkout / words[-1]).is_dir()}


def _forward(words: Sequence[str], checkout: Path) -> tuple[int, str]:
    """Run with the output passed on byte by byte, so that dots appear; the code and last line."""
    last = b""
    environment = dict(os.environ)
    # Each of pytest's processes rewrites every test's asserts if none may keep what it wrote.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with subprocess.Popen(
        words, cwd=checkout, env=environment, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdout is not None
        try:
            while chunk := process.stdout.read(4096):
                sys.stdout.buffer.write(chunk)
                sys.stdout.flush()
                last = (last + chunk)[-4096:]
        except KeyboardInterrupt:
            process.wait()  # it had the same Ctrl-C, and puts its fixtures away
            raise
    lines = last.decode(errors="replace").strip().splitlines()
    return process.returncode, lines[-1] if lines else "pytest printed nothing"


def _coverage(checkout: Path, *, tests_failed: bool) -> Result:
    """Every branch of the pure tier, by the same list that import-linter goes by."""
    step = "coverage of the pure tier"
    if tests_failed:
        return Result(step, "not judged", 0.0)
    files = [f"enforcer/{module}{end}" for module in pure_tier(checkout) for end in (".py", "/*")]
    words = (
        sys.executable,
        "-m",
        "coverage",
        "report",
        "--fail-under=100",
        f"--include={','.join(files)}",
    )
    return _quiet_step(step, words, checkout)


def pure_tier(checkout: Path) -> list[str]:
    """The modules of enforcer that pyproject.toml calls the pure tier."""
    settings = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    return next(
        [str(module).removeprefix("*.") for module in contract["source_modules"]]
        for contract in contracts
        if contract["name"] == PURE_TIER
    )


def _print_table(results: Sequence[Result]) -> None:
    width = max(len(result.step) for result in results)
    print(f"\n{'step':<{width}}  {'result':<10}  seconds")
    for result in results:
        print(f"{result.step:<{width}}  {result.verdict:<10}  {result.seconds:7.1f}")
