"""Docker, as the hub calls it: in threads, each kind of call in its own, every call with its time.

DockerSpawner has one thread for everything, so that one slow call holds up all users. Here calls
that change something, polls and pulls do not wait for one another, and a dockerd that hangs costs
each of them its own time and nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import docker
import docker.auth
import docker.errors
import docker.utils
import requests

from enforcer.errors import EnforcerError, NotFoundError, UnavailableError

NO_ANSWER: Final = frozenset({"docker.timeout", "docker.unreachable"})
"""Codes of what is no answer: Docker may have done, or may yet do, what it was asked."""
_HINT: Final = "systemctl status docker says more"
_NO_SOURCE: Final = "bind source path does not exist"
_NO_IMAGE: Final = "No such image"
_RACE: Final = "BPF_PROG_ATTACH"


_GRACE_SECONDS: Final = {"stop": 10.0}
"""How long Docker waits by itself, for what is to be stopped."""
_UNIX: Final = "unix://"
_USUAL_ADDRESS: Final = "unix:///var/run/docker.sock"
_KNOCK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Dockerd:
    """Where dockerd is, as keyword arguments of docker's APIClient."""

    options: Mapping[str, Any]

    def client(self, **more: object) -> docker.APIClient:
        """Make a client; without a version it asks dockerd for it."""
        return docker.APIClient(**{**self.options, **more})

    def knock(self) -> None:
        """See whether anybody listens: Docker's library leaves a socket open where nobody does.

        Raises:
            docker.errors.DockerException: nobody does.
        """
        address = str(self.options.get("base_url") or _USUAL_ADDRESS)
        if not address.startswith(_UNIX):
            return
        path = f"/{address.removeprefix(_UNIX).lstrip('/')}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
            knocking.settimeout(_KNOCK_SECONDS)
            try:
                knocking.connect(path)
            except OSError as error:
                raise docker.errors.DockerException(f"nobody at {path}: {error}") from error


class Lane(enum.Enum):
    """What kind of call it is."""

    CALLS = "calls"
    POLLS = "polls"


_THREADS: Final = {Lane.CALLS: 8, Lane.POLLS: 4}


class Engine:
    """dockerd's API. A failure comes as the library's own error, a timeout as one of ours."""

    def __init__(self, dockerd: Dockerd, seconds: Mapping[Lane, float]) -> None:
        self._dockerd = dockerd
        self._seconds = seconds
        self._own = threading.local()
        self._lock = threading.Lock()
        self._clients: set[docker.APIClient] = set()
        self._threads = {
            lane: ThreadPoolExecutor(count, thread_name_prefix=f"docker-{lane.value}")
            for lane, count in _THREADS.items()
        }

    async def call(self, lane: Lane, method: str, *arguments: object, **named: object) -> Any:  # noqa: ANN401 - JSON
        """Call a method of docker's APIClient.

        Raises:
            UnavailableError: ``docker.timeout``.
            docker.errors.DockerException, requests.RequestException: as the library does.
        """
        seconds = self._seconds[lane]
        job = self._threads[lane].submit(self._run, seconds, method, arguments, named)
        # Twice the time of one answer: there may be others before it.
        whole = 2 * seconds + _GRACE_SECONDS.get(method, 0)
        try:
            async with asyncio.timeout(whole):
                return await asyncio.wrap_future(job)
        except TimeoutError as error:
            raise UnavailableError(
                "docker.timeout", f"Docker did not answer within {whole:g} s", _HINT
            ) from error

    def stream_pull(self, image: str, stall_seconds: float, take: Callable[[Any], bool]) -> None:
        """Pull an image; `take` gets every event, and ends it by returning False. Blocking.

        Raises: as `call`. A pull that says nothing for `stall_seconds` is a timeout.
        """
        self._dockerd.knock()
        client = self._made(stall_seconds)
        try:
            repository, tag = docker.utils.parse_repository_tag(image)
            registry, _ = docker.auth.resolve_repository_name(repository)
            header = docker.auth.get_config_header(client, registry)
            response = client.post(
                f"{client.base_url}/v{client.api_version}/images/create",
                params={"fromImage": repository, "tag": tag or "latest"},
                headers={"X-Registry-Auth": header} if header else {},
                stream=True,
                timeout=stall_seconds,
            )
            with contextlib.closing(response):
                _check(response)
                for line in response.iter_lines():
                    if line and not take(json.loads(line)):
                        return
        finally:
            self._drop(client)

    def close(self) -> None:
        """Wait for what runs, and close every connection."""
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=True)
        with self._lock:
            clients, self._clients = self._clients, set()
        for client in clients:
            client.close()

    def _run(
        self, seconds: float, method: str, arguments: tuple[object, ...], named: dict[str, object]
    ) -> object:
        self._dockerd.knock()
        client = getattr(self._own, "client", None)
        if client is None:
            client = self._own.client = self._made(seconds)
        try:
            return getattr(client, method)(*arguments, **named)
        except (requests.RequestException, OSError) as error:
            if not isinstance(error, docker.errors.APIError):
                # Another dockerd may answer next time.
                self._own.client = None
                self._drop(client)
            raise

    def _made(self, seconds: float) -> docker.APIClient:
        client = self._dockerd.client(timeout=seconds)
        with self._lock:
            self._clients.add(client)
        return client

    def _drop(self, client: docker.APIClient) -> None:
        with self._lock:
            self._clients.discard(client)
        client.close()


def _check(response: requests.Response) -> None:
    """Raise as Docker's library would."""
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        raise docker.errors.create_api_error_from_http_exception(error) from error


def ours(error: BaseException) -> EnforcerError | None:
    """Return the error of our family that says what an error of Docker's means; None for others."""
    match error:
        case EnforcerError():
            return error
        case docker.errors.APIError():
            return _refused(error)
        case docker.errors.InvalidArgument():
            return UnavailableError(
                "docker.settings",
                f"the hub's settings for containers do not do: {error}",
                "tell the admin",
            )
        case requests.RequestException() | docker.errors.DockerException():
            if "timed out" in str(error).lower():
                return UnavailableError("docker.timeout", "Docker does not answer in time", _HINT)
            return UnavailableError(
                "docker.unreachable", f"Docker cannot be reached: {str(error)[:300]}", _HINT
            )
        case _:
            return None


def missing_path(error: BaseException) -> str | None:
    """Return the directory that Docker could not mount because it is not there."""
    said = _explanation(error)
    return said.rpartition(_NO_SOURCE)[2].strip(" :.\n") if _NO_SOURCE in said else None


def is_gone(error: BaseException) -> bool:
    """Tell whether Docker says that there is no such thing."""
    return isinstance(error, docker.errors.APIError) and error.status_code == 404


def is_taken(error: BaseException) -> bool:
    """Tell whether Docker says that it is being done already, or the name is in use."""
    return isinstance(error, docker.errors.APIError) and error.status_code == 409


def lost_a_race(error: BaseException) -> bool:
    """Tell whether a start failed because PID 1 wrote the container's device rules meanwhile.

    runc replaces the cgroup program that holds them, and finds another than it has just seen.
    """
    return _RACE in _explanation(error)


def _refused(error: docker.errors.APIError) -> EnforcerError:
    said = _explanation(error)[:300]
    if _NO_IMAGE in said or isinstance(error, docker.errors.ImageNotFound):
        return NotFoundError("image.missing", f"the image is not on this machine: {said}")
    return UnavailableError("docker.error", f"Docker refused: {said}", _HINT)


def _explanation(error: BaseException) -> str:
    if not isinstance(error, docker.errors.APIError):
        return ""
    return str(error.explanation or error)
