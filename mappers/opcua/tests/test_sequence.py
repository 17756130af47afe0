"""Messages that were lost, repeated or cut short on the way; what a server does that no library's server does."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from devicemesh_opcua import services, subscribe
from devicemesh_opcua.datatypes import DataTypes
from devicemesh_opcua.learn import Learner
from devicemesh_opcua.publish import Publisher
from devicemesh_opcua.services import Published, ServiceFaultError

from devicemesh.mapper import Batch, LinkError
from devicemesh.testing.contract import rows

LAST = 0xFFFFFFFF


def change(value: float) -> Any:
    item = ua.MonitoredItemNotification(0, ua.DataValue(ua.Variant(value, ua.VariantType.Double)))
    return ua.DataChangeNotification(MonitoredItems=[item])


def message(sequence: int, value: float | None, status: int | None = None) -> Published:
    changes = [] if value is None else [struct_to_binary(change(value))]
    return Published(7, sequence, False, changes, [], status)


class Peer:
    """A server that still has some messages; and what is waiting to be received."""

    link = "plc:4840"
    endpoint = SimpleNamespace(timeout_s=1.0)

    def __init__(self, messages: list[Published | None], kept: dict[int, float]) -> None:
        self.messages = messages
        self.kept = kept
        self.asked: list[int] = []
        self.acknowledged: list[int] = []
        self.types = DataTypes()
        self.lost: Counter[str] = Counter()

    async def ask(self, type_id: int, parameters: bytes) -> bytes:
        assert type_id == services.REPUBLISH_REQUEST
        _, number = struct.unpack("<II", parameters)
        self.asked.append(number)
        if number not in self.kept:
            raise ServiceFaultError(0x807B0000)
        told = ua.NotificationMessage(SequenceNumber=number, NotificationData=[change(self.kept[number])])
        return bytes(struct_to_binary(ua.RepublishResponse(NotificationMessage=told)))

    async def next(self) -> Published | None:
        return self.messages.pop(0)

    def acknowledge(self, subscription: int, sequence: int) -> None:
        self.acknowledged.append(sequence)

    def fill(self) -> None: ...


def received(
    peer: Peer, point: Any, last: int = 0, seen: list[float] | None = None, number: list[int] | None = None
) -> list[float]:
    """The values that come out, in order; in `seen`, and in `number` what was told last, where it ends early."""
    from devicemesh_opcua.model import OpcUaEndpoint

    one = point(0, OpcUaEndpoint(url="opc.tcp://plc"), "float64", "x")
    values: list[float] = [] if seen is None else seen
    told: list[int] = [] if number is None else number

    async def work() -> list[float]:
        subscriber = subscribe.Subscriber(peer, peer, Learner(peer), [one])  # type: ignore[arg-type]
        subscriber._live[7] = subscribe.Subscription(7, 100.0, "source", 5.0, due=1e12, sequence=last)
        try:
            while peer.messages:
                async for batch in subscriber._received():
                    assert isinstance(batch, Batch)
                    values.extend(row.value for row in rows(batch))
        finally:
            told.append(subscriber._live[7].sequence)
        return values

    return asyncio.run(work())


def test_a_lost_message_is_asked_for_again(point: Any) -> None:
    peer = Peer([message(1, 1.0), message(4, 4.0), message(5, 5.0)], {2: 2.0, 3: 3.0})
    assert received(peer, point) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert (peer.asked, peer.acknowledged) == ([2, 3], [1, 4, 5])


def test_a_keep_alive_tells_of_a_lost_message_too(point: Any) -> None:
    peer = Peer([message(1, 1.0), message(3, None), message(3, 3.0), message(4, None), None], {2: 2.0})
    assert received(peer, point) == [1.0, 2.0, 3.0]
    assert peer.acknowledged == [1, 3]


def test_a_message_that_is_gone_ends_the_session(point: Any) -> None:
    with pytest.raises(LinkError, match="has lost message 2 of the subscription"):
        received(Peer([message(1, 1.0), message(3, 3.0)], {}), point)
    with pytest.raises(LinkError, match="has lost 498 messages"):
        received(Peer([message(1, 1.0), message(500, 3.0)], {}), point)


@pytest.mark.parametrize("kept, told", [({}, [1.0]), ({2: 2.0}, [1.0, 2.0])])
def test_what_was_not_told_is_left_for_the_next_session(
    point: Any, kept: dict[int, float], told: list[float]
) -> None:
    """The connection breaks while lost messages are asked for: only what was told counts as taken."""

    class Broken(Peer):
        async def ask(self, type_id: int, parameters: bytes) -> bytes:
            if struct.unpack("<II", parameters)[1] not in self.kept:
                raise LinkError("the connection broke")
            return await super().ask(type_id, parameters)

    seen: list[float] = []
    number: list[int] = []
    peer = Broken([message(1, 1.0), message(4, 4.0)], kept)
    with pytest.raises(LinkError, match="broke"):
        received(peer, point, seen=seen, number=number)
    assert (seen, number, peer.acknowledged) == (told, [len(told)], [1])


def test_a_repeated_message_is_not_delivered_twice(point: Any) -> None:
    assert received(Peer([message(1, 1.0), message(1, 1.0), message(2, 2.0)], {}), point) == [1.0, 2.0]


def test_what_a_server_lost_is_counted_in_its_session(point: Any) -> None:
    held = ua.DataValue(ua.Variant(1.0, ua.VariantType.Double), ua.StatusCode(0x480))
    items = [ua.MonitoredItemNotification(handle, held) for handle in (0, 9)]
    change = struct_to_binary(ua.DataChangeNotification(MonitoredItems=items))
    peer = Peer([Published(7, 1, False, [change], [], None)], {})
    assert received(peer, point) == [1.0]
    assert peer.lost == {"server_queue": 1, "unknown_item": 1}


def test_numbers_begin_again(point: Any) -> None:
    peer = Peer([message(LAST - 1, 1.0), message(2, 4.0)], {LAST: 2.0, 1: 3.0})
    assert received(peer, point, last=LAST - 2) == [1.0, 2.0, 3.0, 4.0]


def test_an_ended_subscription_and_an_undecodable_message_end_the_session(point: Any) -> None:
    with pytest.raises(LinkError, match="has ended the subscription"):
        received(Peer([message(1, None, status=0x800A0000)], {}), point)
    with pytest.raises(LinkError, match="can't be read"):
        received(Peer([Published(7, 1, False, [b"\x05\0\0\0" + b"\xff" * 30], [], None)], {}), point)


def test_publish_requests_are_fewer_where_the_server_wants_it_so() -> None:
    posted: list[asyncio.Future[Any]] = []

    def fault(status: int) -> bytes:
        header = ua.ResponseHeader(ServiceResult=ua.StatusCode(status))
        return bytes(struct_to_binary(ua.ServiceFault(ResponseHeader=header)))

    def post(type_id: int, parameters: bytes, timeout_s: float) -> asyncio.Future[Any]:
        assert type_id == services.PUBLISH_REQUEST
        posted.append(asyncio.get_running_loop().create_future())
        return posted[-1]

    async def work() -> None:
        server = SimpleNamespace(
            link="plc:4840", connection=SimpleNamespace(channel=SimpleNamespace(post=post))
        )
        server.check = lambda fault: None
        publisher = Publisher(server)  # type: ignore[arg-type]
        publisher.begin()
        publisher.fill()
        assert len(posted) == 4
        for future in posted[:2]:
            future.set_result(fault(0x80780000))
            assert await publisher.next() is None
            publisher.fill()
        assert len(posted) == 4, "two are enough now"
        publisher.begin()
        posted[2].set_result(fault(0x80790000))
        assert await publisher.next() is None, "no subscription: said to those before"
        publisher.fill()
        posted[4].set_result(fault(0x80790000))
        with pytest.raises(LinkError, match="has ended the subscription"):
            await publisher.next()

    asyncio.run(work())
