"""What a peer pushes, beside the polls of its link."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from devicemesh.mapper import (
    Batch,
    LinkError,
    Notification,
    Notifier,
    Notifying,
    Point,
    Session,
    Subscribable,
)


class Push:
    """The subscription of one session. `wake` tells the link that it has ended."""

    def __init__(
        self,
        session: Session[Any, Any],
        take: Callable[[Batch | Notification], None],
        wake: Callable[[], None],
    ) -> None:
        self._session = session
        self._take = take
        self._wake = wake
        self._task: asyncio.Task[None] | None = None
        self._points: list[tuple[Point[Any, Any], Any]] = []
        self._notifiers: list[Notifier[Any]] = []

    async def __aenter__(self) -> Push:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._end()

    @property
    def ended(self) -> bool:
        """Whether `check` has something to raise."""
        return self._task is not None and self._task.done()

    async def subscribe(
        self, points: Iterable[Point[Any, Any]], notifiers: Iterable[Notifier[Any]] = ()
    ) -> list[Point[Any, Any]]:
        """Subscribe what the peer pushes of these, in place of what was; returns the rest, to be polled."""
        session, polled = self._session, list(points)
        if not isinstance(session, Subscribable):
            return polled
        pushed = [(one, one.telemetry) for one in polled if session.pushes(one)]
        heard = list(notifiers) if isinstance(session, Notifying) else []
        if pushed != self._points or heard != self._notifiers:
            await self._end()
            self._points, self._notifiers = pushed, heard
            if pushed or heard:
                self._task = asyncio.create_task(self._run(session), name="push")
        return [one for one in polled if not session.pushes(one)]

    async def _run(self, session: Subscribable[Any, Any]) -> None:
        points = [one for one, _ in self._points]
        if isinstance(session, Notifying):
            pushes = session.subscribe(points, self._notifiers)
        else:
            pushes = session.subscribe(points)
        try:
            async with contextlib.aclosing(pushes):
                async for push in pushes:
                    self._take(push)
        finally:
            self._wake()

    def check(self) -> None:
        """Raise why the subscription has ended, if it has. It never ends well."""
        if self._task is not None and self._task.done():
            self._task.result()
            raise LinkError("the peer ended the subscription", reason="SubscriptionEnded")

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # seen: the session is left, or subscribed anew
