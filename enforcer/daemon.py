"""`enforcer run`: the controller, the API and the metrics under systemd's eyes."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from enforcer.adapters.cgroupfs import CgroupFs
from enforcer.adapters.clock import SystemClock
from enforcer.adapters.docker import DockerEngine
from enforcer.adapters.host import PsutilHost
from enforcer.adapters.journal import configure_logging
from enforcer.adapters.ledger import SqliteLedger
from enforcer.adapters.preflight import preflight
from enforcer.adapters.supervisor import Supervisor, activated_sockets
from enforcer.adapters.systemd import SystemdActuator
from enforcer.api.connections import Bounds, Register
from enforcer.api.peers import Peers, peer_uid
from enforcer.api.routes import Api
from enforcer.api.server import Finishing, Server, api_app, metrics_app
from enforcer.config import parse_config
from enforcer.controller import ConfigFile, Controller, World
from enforcer.errors import EnforcerError, InvalidError, UnavailableError
from enforcer.metrics import Metrics
from enforcer.model import SOCKET, Config
from enforcer.ports import Clock, Host
from enforcer.quantities import format_bytes, format_cpus
from enforcer.wholefile import put

_log = logging.getLogger(__name__)

DEFAULT_CONFIG = Path("/etc/enforcer/enforcer.toml")
DEFAULT_STATE = Path("/var/lib/enforcer")

_LAST_GOOD = "enforcer.toml.last-good"
_BACKLOG = 4096
_STATUS_SECONDS = 10.0
_HUNG_TICKS = 15
"""With no tick finished for this many, the daemon hangs, and systemd shall start it anew."""
_LEAST_HUNG_SECONDS = 60.0
"""A tick may wait for PID 1 to time out a few times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where everything is. socket: made when systemd hands none over."""

    config: Path = DEFAULT_CONFIG
    state: Path = DEFAULT_STATE
    socket: Path = Path(SOCKET)
    debug: bool = False


def main(options: Options) -> int:
    """Run until told to stop; 0, or 1 where it could not start."""
    configure_logging(debug=options.debug)
    try:
        asyncio.run(_run(options))
    except EnforcerError as error:
        _log.critical("%s", error)
        Supervisor().status(error.message)
        return 1
    return 0


async def _run(options: Options) -> None:
    supervisor = Supervisor()
    supervisor.status("starting")
    _check_machine()
    host = PsutilHost()
    config, config_error = load_config(options, host)
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        world = await _open_world(stack, options, host, config)
        file = ConfigFile(path=options.config, read=lambda: _read(options, host))
        controller = Controller(world, config, file, config_error=config_error)
        _follow_signals(stop, controller, supervisor)
        stack.push_async_callback(controller.stop)
        await controller.start()
        stack.callback(supervisor.stopping)
        await _serve(stack, options, controller, world)
        supervisor.ready(_status(controller))
        _log.info("ready: %s", _status(controller))
        await watch(controller, supervisor, world.clock, stop)


async def _open_world(stack: AsyncExitStack, options: Options, host: Host, config: Config) -> World:
    """Connect everything; what is opened here is closed last."""
    ledger = await SqliteLedger.open(
        options.state / "enforcer.db", receipts_kept=config.daemon.receipts_kept
    )
    stack.push_async_callback(ledger.close)
    systemd = SystemdActuator()
    stack.push_async_callback(systemd.close)
    docker = DockerEngine()
    stack.push_async_callback(docker.close)
    kernel = CgroupFs()
    stack.callback(kernel.close)
    return World(
        systemd=systemd,
        kernel=kernel,
        docker=docker,
        host=host,
        ledger=ledger,
        clock=SystemClock(),
    )


async def _serve(
    stack: AsyncExitStack, options: Options, controller: Controller, world: World
) -> None:
    daemon = controller.config.daemon
    peers = Peers(world.host, world.clock, lambda: controller.config.daemon.hub_users)
    stack.push_async_callback(peers.close)
    await peers.learn()
    metrics = Metrics(controller.published)
    finishing = Finishing()
    api = Server(
        api_app(Api(controller, metrics), peers, finishing),
        Register(Bounds(), peers.exempt),
        peer_uid,
    )
    stack.push_async_callback(finishing.wait, 10.0)
    await api.start(_api_socket(options.socket))
    stack.push_async_callback(api.stop)
    pages = Server(
        metrics_app(metrics), Register(Bounds(total=64, per_uid=64, reserved=0), _nobody)
    )
    listener = _metrics_socket(daemon.metrics_host, daemon.metrics_port)
    if listener is not None:
        await pages.start(listener)
        stack.push_async_callback(pages.stop)


def _nobody(_: int) -> bool:
    return False


def load_config(options: Options, host: Host) -> tuple[Config, str]:
    """Read the configuration; where it is wrong, the last one that was right, and what is wrong.

    Limits have to hold whatever a typing error did to the file meanwhile.

    Raises:
        EnforcerError: it is wrong or missing, and there never was a right one.
    """
    capacity = host.capacity()
    last_good = options.state / _LAST_GOOD
    try:
        text = _text(options.config)
        config = parse_config(text, capacity, source=str(options.config))
    except (InvalidError, UnavailableError) as error:
        try:
            kept = parse_config(_text(last_good), capacity, source=str(last_good))
        except EnforcerError:
            raise error from None
        _log.error("%s", error)
        _log.warning("going on with the last configuration that was right")
        return kept, error.message
    _keep(last_good, text)
    return config, ""


def _read(options: Options, host: Host) -> str:
    """Read the file for a reload, and keep it as the last good one if it is."""
    text = _text(options.config)
    parse_config(text, host.capacity(), source=str(options.config))
    _keep(options.state / _LAST_GOOD, text)
    return text


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UnavailableError(
            "config.unreadable",
            f"{path} cannot be read: {error}",
            "put it there, readable for root and in UTF-8",
        ) from error


def _keep(last_good: Path, text: str) -> None:
    try:
        put(last_good, text.encode(), mode=0o600)
    except OSError as error:  # a full disk: the older one stays, and the daemon runs
        _log.warning("cannot keep a copy of the configuration: %s", error)


def _check_machine() -> None:
    """Say everything that is wrong with this machine; end here if that is fatal."""
    problems = preflight()
    for problem in problems:
        _log.log(
            logging.CRITICAL if problem.fatal else logging.WARNING,
            "%s (%s)",
            problem.message,
            problem.hint,
        )
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        raise UnavailableError(fatal[0].code, fatal[0].message, fatal[0].hint)


def _api_socket(path: Path) -> socket.socket:
    given = [one for one in activated_sockets() if one.family == socket.AF_UNIX]
    if given:
        return given[0]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        # Anyone may ask: SO_PEERCRED tells who it is, the policy what they may.
        path.chmod(0o666)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UnavailableError(
            "socket.unusable",
            f"cannot listen on {path}: {error.strerror}",
            "is another one running?",
        ) from error
    return listener


def _metrics_socket(host: str, port: int) -> socket.socket | None:
    """Without this port there are still the metrics on the Unix socket: no reason not to run."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        _log.error("no metrics on %s port %d: %s", host, port, error.strerror)
        return None


def _follow_signals(stop: asyncio.Event, controller: Controller, supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(controller, supervisor))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _reload(controller: Controller, supervisor: Supervisor) -> None:
    try:
        await controller.reload()
    except EnforcerError as error:
        supervisor.status(f"a reload was refused: {error.message.splitlines()[0]}")


async def watch(
    controller: Controller, supervisor: Supervisor, clock: Clock, stop: asyncio.Event
) -> None:
    """Give signs of life as long as ticks are made, until told to stop.

    Raises:
        UnavailableError: ``daemon.broken``: it takes a new start.
    """
    every = min(supervisor.watchdog_seconds or _STATUS_SECONDS, _STATUS_SECONDS)
    while not stop.is_set():
        if controller.broken:
            raise UnavailableError("daemon.broken", "a part of the daemon has ended", "see above")
        hung = max(_LEAST_HUNG_SECONDS, _HUNG_TICKS * controller.config.daemon.tick_seconds)
        if clock.monotonic() - controller.last_tick_at < hung:
            supervisor.alive()
        supervisor.status(_status(controller))
        try:
            async with asyncio.timeout(every):
                await stop.wait()
        except TimeoutError:
            continue


def _status(controller: Controller) -> str:
    """How it is, in one line for `systemctl status`."""
    published = controller.published()
    live = [lease for lease in published.leases if lease.live]
    cpu = format_cpus(sum(lease.grant.cpu_guarantee for lease in live))
    memory = format_bytes(sum(lease.grant.mem_guarantee for lease in live))
    parts = [f"{len(live)} leases, {cpu} cores and {memory} promised"]
    if published.caps:
        parts.append(f"{len(published.caps)} capped")
    if published.open_drift:
        parts.append(f"{len(published.open_drift)} things to mend: see `enforcer status`")
    if not published.docker_ok:
        parts.append("docker does not answer")
    if not published.systemd_ok:
        parts.append("systemd does not answer")
    if published.config_error:
        parts.append("the configuration file is wrong: see `enforcer check`")
    return "; ".join(parts)
