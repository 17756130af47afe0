"""Commands on their way in: in order for a device, held up by no other, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from devicemesh.settings import MqttSettings
from devicemesh.sink.base import Command
from devicemesh.sink.inbox import WAITING, WAITING_OF_ONE, Inbox
from devicemesh.sink.topics import Topics

Act = Callable[[Inbox], Awaitable[None]]


def play(act: Act) -> None:
    async def main() -> None:
        settings = MqttSettings()
        inbox = Inbox(Topics(settings, "test"), settings.max_payload_bytes)
        running = asyncio.create_task(inbox.run())
        await act(inbox)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(main())


def say(inbox: Inbox, device: str, value: int) -> None:
    inbox.offer(f"devicemesh/v1/default/{device}/twin/desired", b'{"v": %d}' % value, False, None)


async def rounds() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_silent_device_holds_up_nobody_else() -> None:
    async def act(inbox: Inbox) -> None:
        answered = asyncio.Event()
        done: list[tuple[str, Any]] = []

        async def handle(command: Command) -> None:
            if command.device == "default/silent":
                await answered.wait()
            done.append((command.device, command.body["v"]))

        inbox.handler = handle
        for number in range(3):
            say(inbox, "silent", number)
            say(inbox, "lively", number)
        await rounds()
        assert done == [("default/lively", number) for number in range(3)]
        answered.set()
        await rounds()
        assert done[3:] == [("default/silent", number) for number in range(3)]

    play(act)


def test_a_device_that_does_not_answer_leaves_room_for_others() -> None:
    async def act(inbox: Inbox) -> None:
        go_on = asyncio.Event()
        done: list[str] = []

        async def handle(command: Command) -> None:
            if command.device == "default/silent":
                await go_on.wait()
            done.append(command.device)

        inbox.handler = handle
        for number in range(WAITING + 1):
            say(inbox, "silent", number)
        assert inbox.refused == WAITING + 1 - WAITING_OF_ONE
        say(inbox, "other", 1)
        await rounds()
        assert done == ["default/other"]
        go_on.set()
        for _ in range(WAITING_OF_ONE):
            await asyncio.sleep(0)
        await rounds()
        assert len(done) == 1 + WAITING_OF_ONE
        for number in range(WAITING_OF_ONE):
            say(inbox, "silent", number)
        await rounds()
        assert inbox.refused == WAITING + 1 - WAITING_OF_ONE, "there is room again"

    play(act)


def test_so_many_may_wait_and_no_more_then_there_is_room_again() -> None:
    async def act(inbox: Inbox) -> None:
        go_on = asyncio.Event()
        done: list[int] = []

        async def handle(command: Command) -> None:
            await go_on.wait()
            done.append(command.body["v"])

        inbox.handler = handle
        for number in range(WAITING + 10):
            say(inbox, f"device-{number % 7}", number)
            await asyncio.sleep(0)
        assert inbox.refused == 10
        go_on.set()
        for _ in range(WAITING):
            await asyncio.sleep(0)
        assert len(done) == WAITING
        say(inbox, "device-1", 1000)
        await rounds()
        assert done[-1] == 1000 and inbox.refused == 10

    play(act)


def test_a_handler_that_fails_ends_no_line() -> None:
    async def act(inbox: Inbox) -> None:
        done: list[int] = []

        async def handle(command: Command) -> None:
            if command.body["v"] == 0:
                raise RuntimeError("a bug")
            done.append(command.body["v"])

        inbox.handler = handle
        for number in range(3):
            say(inbox, "one", number)
        await rounds()
        assert done == [1, 2]

    play(act)
