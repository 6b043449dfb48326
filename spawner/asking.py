"""What may be asked for: the form that asks, and the check that every way to a start passes."""

from __future__ import annotations

from typing import Any

from traitlets import default

from enforcer.api.types import CatalogueReply
from enforcer.errors import EnforcerError, ForbiddenError, InvalidError, NotFoundError
from spawner.container import PlacedContainer
from spawner.form import make_form
from spawner.options import Wanted, check_options
from spawner.refusals import refusal


class AskingSpawner(PlacedContainer):
    """A spawner that knows what its user may have. `offered`: what options were checked against."""

    def __init__(self, **named: Any) -> None:  # noqa: ANN401 - traits
        self.offered: CatalogueReply | None = None
        self.tidy = False
        """There is nothing of this server anywhere; unknown before its first start or stop."""
        super().__init__(**named)

    @default("options_form")
    def _default_options_form(self) -> Any:  # noqa: ANN401 - a callable
        return _options_form

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Any:  # noqa: ANN401 - a callable
        return _apply_user_options

    async def catalogue(self) -> CatalogueReply:
        """Ask the daemon what this user may choose from, for no longer than a page can wait."""
        return await self.backends.quick.catalogue(self.user.name, self.name, self.group_names())

    async def check(self, options: object) -> Wanted:
        """Check the options of a start against what the daemon offers this user now.

        Raises:
            StartRefused: with a sentence for the user. What was refused is not kept as the user's
                stored options, or every later start without options would be refused as well.
        """
        self.tidy = not self.backends.leftovers.pending(self.object_name)
        self.offered = await self.offers()
        return self.checked(options, self.offered)

    async def offers(self) -> CatalogueReply:
        """Ask the daemon what this user may choose from; it may take its time."""
        try:
            return await self.backends.client.catalogue(
                self.user.name, self.name, self.group_names()
            )
        except EnforcerError as error:
            raise refusal(error, self.texts()) from error

    def checked(self, options: object, offered: CatalogueReply) -> Wanted:
        """Check the options of a start against an offer; see `check`."""
        try:
            return check_options(options, offered)
        except (InvalidError, ForbiddenError, NotFoundError) as error:
            if self.orm_spawner is not None:
                self.orm_spawner.user_options = {}
            raise refusal(error, self.texts()) from None  # the hub logs it with its trace

    def group_names(self) -> list[str]:
        """Return the hub's groups of the user."""
        return sorted(group.name for group in self.user.groups)


async def _options_form(spawner: AskingSpawner) -> str:
    quick = spawner.backends.quick
    return await make_form(spawner.catalogue(), quick.status(), spawner.user_options, spawner.log)


async def _apply_user_options(spawner: AskingSpawner, options: object) -> None:
    """Refuse what may not be asked for; it runs on every way to a start."""
    await spawner.check(options)
