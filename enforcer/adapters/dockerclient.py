"""Docker's library, with its errors turned into ours. Blocking, and safe for several threads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import docker
import docker.errors
import requests

from enforcer.errors import UnavailableError

T = TypeVar("T")

_NOT_FOUND: Final = 404
_HINT: Final = "see systemctl status docker"


class DockerClient:
    """One connection for each thread, made when it is first needed."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        self._socket = path
        self._timeout = timeout_seconds
        self._own = threading.local()
        self._lock = threading.Lock()
        self._clients: set[docker.APIClient] = set()

    def list(self) -> object:
        """``GET /containers/json?all=1``.

        Raises:
            UnavailableError: ``docker.unreachable``, ``docker.timeout``, ``docker.error``.
        """
        return self._call(lambda client: client.containers(all=True))

    def inspect(self, container_id: str) -> object:
        """``GET /containers/{id}/json``; None if there is no such container."""
        return self._call(lambda client: client.inspect_container(container_id))

    def update(self, container_id: str, body: Mapping[str, int | str]) -> bool:
        """``POST /containers/{id}/update``; False if there is no such container."""

        # The library's own call knows neither NanoCpus nor PidsLimit.
        def post(client: docker.APIClient) -> bool:
            url = f"{client.base_url}/v{client.api_version}/containers/{container_id}/update"
            response = client.post(url, json=body, timeout=self._timeout)
            if response.status_code == _NOT_FOUND:
                return False
            if response.status_code >= requests.codes.bad_request:
                raise docker.errors.APIError(
                    "update refused", response=response, explanation=response.text[:500]
                )
            return True

        return bool(self._call(post))

    def close(self) -> None:
        """Close every thread's connections; a call under way fails."""
        with self._lock:
            clients, self._clients = self._clients, set()
        for client in clients:
            client.close()

    def _call(self, call: Callable[[docker.APIClient], T]) -> T | None:
        try:
            with _translated(self._timeout):
                return call(self._client())
        except docker.errors.NotFound:
            return None
        except UnavailableError:
            # Another dockerd may answer next time, which speaks another version.
            self._drop()
            raise

    def _client(self) -> docker.APIClient:
        client: docker.APIClient | None = getattr(self._own, "client", None)
        if client is None:
            self._knock()
            client = docker.APIClient(
                f"unix://{self._socket}",
                version="auto",
                timeout=self._timeout,  # type: ignore[arg-type]  # a float will do
            )
            self._own.client = client
            with self._lock:
                self._clients.add(client)
        return client

    def _knock(self) -> None:
        """See whether anybody listens: the library leaves a socket open where nobody does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
            knocking.settimeout(self._timeout)
            knocking.connect(str(self._socket))

    def _drop(self) -> None:
        client: docker.APIClient | None = getattr(self._own, "client", None)
        if client is not None:
            self._own.client = None
            with self._lock:
                self._clients.discard(client)
            client.close()


@contextmanager
def _translated(timeout_seconds: float) -> Iterator[None]:
    try:
        yield
    except docker.errors.NotFound:
        raise
    except docker.errors.APIError as error:
        why = str(error.explanation or error)[:500]
        raise UnavailableError("docker.error", f"dockerd refused: {why}") from error
    except (ValueError, RecursionError) as error:  # no JSON
        raise UnavailableError("docker.error", f"dockerd said nonsense: {error}"[:300]) from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        # Neither library tells all timeouts by their type: some come wrapped in others' errors.
        if "timed out" in str(error).lower():
            raise UnavailableError(
                "docker.timeout", f"dockerd did not answer within {timeout_seconds:g} s", _HINT
            ) from error
        raise UnavailableError(
            "docker.unreachable", f"no answer from dockerd: {str(error)[:300]}", _HINT
        ) from error
