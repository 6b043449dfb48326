"""What the hub's configuration may say: where the daemon is, how long to wait, what users read.

Profiles, images, rights, homes and shared directories are not here: they are the daemon's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traitlets import Any as AnyTrait
from traitlets import Float, HasTraits, Unicode, default, validate

from enforcer.client import DEFAULT_SECONDS, DEFAULT_SOCKET
from spawner.backends import Seconds
from spawner.options import clean_options, parse_form

_MARGIN_SECONDS = 300


class HubSettings(HasTraits):
    """The traits, and the defaults of DockerSpawner's own that have to be others."""

    socket_path = Unicode(DEFAULT_SOCKET, help="The enforcer's socket.").tag(config=True)

    daemon_timeout = Float(
        DEFAULT_SECONDS, min=0.1, help="Seconds that the enforcer may take to answer."
    ).tag(config=True)

    form_timeout = Float(
        3.0, min=0.1, help="Seconds that a page or a poll waits for the enforcer."
    ).tag(config=True)

    docker_timeout = Float(
        60.0, min=0.1, help="Seconds that dockerd may take to answer a call."
    ).tag(config=True)

    poll_timeout = Float(
        10.0, min=0.1, help="Seconds that dockerd may take to say whether a container runs."
    ).tag(config=True)

    pull_timeout = Float(
        1800.0, min=1, help="Seconds that a start waits for its image to be fetched."
    ).tag(config=True)

    pull_stall_timeout = Float(
        300.0, min=0.1, help="Seconds after which a pull that says nothing has failed."
    ).tag(config=True)

    queue_timeout = Float(
        3600.0, min=0, help="Seconds that a start waits in the enforcer's queue."
    ).tag(config=True)

    cleanup_timeout = Float(
        10.0,
        min=0,
        help="Seconds that a failed start, or a stop, waits until everything is put away."
        " What takes longer goes on by itself.",
    ).tag(config=True)

    down_text = Unicode(
        "The machine's resource service is down, so nothing can start. Servers that run go on"
        " running. Please tell the admin.",
        help="What a user reads when the enforcer does not answer.",
    ).tag(config=True)

    docker_down_text = Unicode(
        "Docker does not answer on this machine, so nothing can start. Please tell the admin.",
        help="What a user reads when dockerd does not answer.",
    ).tag(config=True)

    home_missing_text = Unicode(
        "Your home directory {path} is not there. It may not have been made yet, or its disk may"
        " not be mounted. Please tell the admin.",
        help="What a user reads whose home is missing; {path} stands for it.",
    ).tag(config=True)

    shared_missing_text = Unicode(
        "The shared directory {path} is not there, and no server starts without it. Please tell the"
        " admin.",
        help="What a user reads when one of the shared directories is missing.",
    ).tag(config=True)

    # Of the hub's and DockerSpawner's own: they have no types.
    if TYPE_CHECKING:
        object_id: str
        user_id: int
        group_id: int

    # The hub stores options before anybody has checked them, and gives back what it finds there.
    user_options = AnyTrait()

    @default("user_options")
    def _no_options(self) -> dict[str, object]:
        return {}

    @validate("user_options")
    def _clean_options(self, proposal: Any) -> dict[str, object]:  # noqa: ANN401 - traitlets' own
        return clean_options(proposal["value"])

    @default("options_from_form")
    def _default_options_from_form(self) -> Any:  # noqa: ANN401 - a callable
        return parse_form

    @default("remove")
    def _default_remove(self) -> bool:
        return True

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        """Return more than the parts may take together: each says itself why it ended."""
        return round(self.queue_timeout + self.pull_timeout) + _MARGIN_SECONDS

    @default("http_timeout")
    def _default_http_timeout(self) -> int:
        """Return more than the hub's half a minute: a server starts within its own CPU limit."""
        return 120

    def seconds(self) -> Seconds:
        """Return how long each thing may take."""
        return Seconds(
            docker=self.docker_timeout,
            poll=self.poll_timeout,
            daemon=self.daemon_timeout,
            form=self.form_timeout,
            stall=self.pull_stall_timeout,
        )

    def texts(self) -> dict[str, str]:
        """Return what to say when something does not do its part."""
        return {"daemon": self.down_text, "docker": self.docker_down_text, "": self.down_text}
