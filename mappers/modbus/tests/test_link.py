"""Transactions: frames in any pieces, and answers to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.line import AsciiLink, RtuLink
from devicemesh_modbus.mbap import DialledMbapLink, MbapLink
from devicemesh_modbus.session import AsciiFrames, ModbusRequests, RtuFrames
from hypothesis import given
from hypothesis import strategies as st

from devicemesh.mapper import AuthError, LinkError
from devicemesh.testing.clock import SOCKETS_S, run_virtual

TCP = ModbusRequests(ModbusEndpoint(host="plc"))
RTU = ModbusRequests(ModbusEndpoint(host="plc", transport="rtuovertcp"))
ASCII = ModbusRequests(ModbusEndpoint(host="plc", transport="asciiovertcp"))
ANSWER = b":010302002FCB\r\n"
"""Unit 1 has 47 in one holding register."""


class Sent(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        self.frames.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


def ask(requests: ModbusRequests, start: int, unit: int = 1, timeout_s: float = 5.0) -> Any:
    return requests.read(unit, "holding", start, 1, timeout_s=timeout_s, pause_s=0.0)


def mbap(tid: int, value: int, unit: int = 1) -> bytes:
    return tid.to_bytes(2) + b"\0\0\0\5" + bytes((unit, 3, 2)) + value.to_bytes(2)


@given(st.lists(st.integers(1, 80), max_size=20), st.permutations(range(1, 7)))
def test_frames_in_any_pieces_and_order(cuts: Sequence[int], order: Sequence[int]) -> None:
    async def work() -> None:
        link = MbapLink("plc:502", datagrams=False)
        transport = Sent()
        link.connection_made(transport)
        futures = [link.send(ask(TCP, n)) for n in range(6)]
        assert [f[:2] for f in transport.frames] == [n.to_bytes(2) for n in range(1, 7)]
        stream = b"".join(mbap(tid, 1000 + tid) for tid in order)
        at = 0
        for cut in cuts:
            link.data_received(stream[at : at + cut])
            at += cut
        link.data_received(stream[at:])
        answers = [await f for f in futures]
        assert [a and a[0] for a in answers] == [b"\3\2" + (1000 + n).to_bytes(2) for n in range(1, 7)]
        link.close()

    run_virtual(work(), patience_s=SOCKETS_S)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6))
def test_no_bytes_break_a_stream(pieces: list[bytes]) -> None:
    """Whatever comes, a request is answered truly, not at all, or the link is lost."""

    async def work() -> None:
        for link, requests in (
            (MbapLink("plc:502", datagrams=False), TCP),
            (DialledMbapLink("modem"), TCP),
            (RtuLink("plc:502", RtuFrames()), RTU),
            (AsciiLink("plc:502", AsciiFrames()), ASCII),
        ):
            link.connection_made(Sent())
            future = link.send(ask(requests, 7))
            for piece in pieces:
                link.data_received(piece)
            if future.done():
                assert future.result() is None and link.lost, "noise was taken for an answer"
            link.close()
            assert await future is None

    run_virtual(work(), patience_s=SOCKETS_S)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_an_rtu_answer_is_found_in_noise(before: bytes, after: bytes) -> None:
    async def work() -> None:
        link = RtuLink("plc:502", RtuFrames(), 0.0)
        transport = Sent()
        link.connection_made(transport)
        future = link.send(ask(RTU, 7))
        link.data_received(before + bytes.fromhex("010302002ff998") + after)
        assert future.done(), "not found"
        answer = future.result()
        assert answer is not None and answer[0] == bytes.fromhex("0302002f")
        link.close()

    run_virtual(work(), patience_s=SOCKETS_S)


@given(st.lists(st.sampled_from([b":", b"\r\n", b"\r", ANSWER[:7], ANSWER[3:], b":01", b":zz", b"\0"])),
       st.binary(max_size=20), st.lists(st.integers(1, 30), max_size=6))  # fmt: skip
def test_an_ascii_answer_is_found_in_noise(parts: list[bytes], after: bytes, cuts: list[int]) -> None:
    async def work() -> None:
        link = AsciiLink("plc:502", AsciiFrames())
        link.connection_made(Sent())
        future = link.send(ask(ASCII, 7))
        stream, at = b"".join(parts) + ANSWER + after, 0
        for cut in cuts:
            link.data_received(stream[at : at + cut])
            at += cut
        link.data_received(stream[at:])
        assert future.done(), "not found"
        answer = future.result()
        assert answer is not None and answer[0] == bytes.fromhex("0302002f")
        link.close()

    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize(
    ("said", "repeatable"),
    [
        (b":010302002FCC\r\n", True),  # its checksum is wrong: it has come, garbled
        (b":010302002FC\r\n", True),  # half a byte is missing
        (b":01830EE\r\n", True),
        (b":020302002FCA\r\n", False),  # another unit's
        (b":010402002FCA\r\n", False),  # another function's
        (b"010302002FCB\r\n", False),  # nothing begins
        (b":010302002FCB\r", False),  # nor ends
        (b":0103FC\r\n", True),  # no data
    ],
)
def test_what_is_no_ascii_answer(said: bytes, repeatable: bool) -> None:
    async def work() -> None:
        link = AsciiLink("plc:502", AsciiFrames())
        link.connection_made(Sent())
        future = link.send(ask(ASCII, 7, timeout_s=0.02))
        link.data_received(said)
        assert await future is None and link.repeatable == repeatable
        link.close()

    run_virtual(work(), patience_s=SOCKETS_S)


def test_an_ascii_question_and_the_answer_in_small_letters() -> None:
    """As the specification's example has it (Modbus over Serial Line V1.02, 2.5.2)."""

    async def work() -> None:
        link, transport = AsciiLink("plc:502", AsciiFrames()), Sent()
        link.connection_made(transport)
        one = ask(ASCII, 7)
        assert one.pdu == bytes.fromhex("0300070001") and one.function == 3
        future = link.send(one)
        assert transport.frames == [b":010300070001F4\r\n"]
        link.data_received(ANSWER.lower())
        assert (await future or (b"",))[0] == bytes.fromhex("0302002f")
        link.close()

    run_virtual(work(), patience_s=SOCKETS_S)


@given(st.lists(st.binary(max_size=12), max_size=5), st.integers(0, 30))
def test_what_a_modem_says_in_between_is_passed_over(talk: list[bytes], cut: int) -> None:
    async def work() -> None:
        link, transport = DialledMbapLink("modem"), Sent()
        link.connection_made(transport)
        for n, said in enumerate(talk):
            link.data_received(said)  # unasked
            future = link.send(ask(TCP, n))
            stream = said + mbap(int.from_bytes(transport.frames[-1][:2]), 1000 + n) + said
            link.data_received(stream[:cut])
            link.data_received(stream[cut:])
            answer = await future
            assert answer is not None and answer[0] == b"\3\2" + (1000 + n).to_bytes(2)
        link.close()

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_modem_that_hands_rtu_through_is_named() -> None:
    async def work() -> None:
        link = DialledMbapLink("modem")
        link.connection_made(Sent())
        future = link.send(ask(TCP, 7, timeout_s=0.02))
        link.data_received(bytes.fromhex("010302002ff998"))
        assert await future is None and link.lost is None
        assert link.stray == "7 bytes that are no answer in Modbus/TCP (01 03 02 00 2f f9 98)"
        assert await link.send(ask(TCP, 7, timeout_s=0.02)) is None and link.stray == "", "that was before"
        link.close()

    run_virtual(work(), patience_s=SOCKETS_S)


def test_an_answer_of_another_unit_behind_a_modem_is_none() -> None:
    async def work() -> None:
        link, transport = DialledMbapLink("modem"), Sent()
        link.connection_made(transport)
        future = link.send(ask(TCP, 7))
        tid = int.from_bytes(transport.frames[0][:2])
        link.data_received(mbap(tid, 1, unit=2) + mbap(tid ^ 1, 2) + mbap(tid, 3))
        assert (await future or (b"",))[0] == b"\3\2\0\3"
        link.close()

    run_virtual(work(), patience_s=SOCKETS_S)


def test_the_checksum_used_above_is_the_real_one() -> None:
    assert RtuFrames().is_sound(bytes.fromhex("010302002ff998"))


def test_an_answer_to_nobody_is_dropped_and_named() -> None:
    async def work() -> None:
        link = MbapLink("plc:502", datagrams=False)
        link.connection_made(Sent())
        link.data_received(mbap(9, 1))
        future = link.send(ask(TCP, 7, timeout_s=0.02))
        link.data_received(mbap(0, 1) + mbap(2, 1) + mbap(1, 1, unit=2))
        assert not future.done()
        assert link.stray == "an answer from unit 2 instead of 1"
        assert await future is None, "and time runs out"
        late = link.send(ask(TCP, 8))
        link.data_received(mbap(1, 1))
        assert not late.done(), "the late answer of the first is not the second's"
        link.data_received(mbap(2, 5))
        assert (await late or (b"",))[0] == b"\3\2\0\5"
        link.close()

    run_virtual(work(), patience_s=SOCKETS_S)


def test_each_request_has_a_time_of_its_own() -> None:
    async def work() -> None:
        link = MbapLink("plc:502", datagrams=False)
        link.connection_made(Sent())
        times = {"slow": 0.05, "quick": 0.01, "middle": 0.03}
        done: list[str] = []

        def note(name: str, _: object) -> None:
            done.append(name)

        futures = []
        for name, timeout_s in times.items():
            futures.append(link.send(ask(TCP, 1, timeout_s=timeout_s)))
            futures[-1].add_done_callback(partial(note, name))
        await asyncio.gather(*futures)
        assert done == ["quick", "middle", "slow"]
        link.close()

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_slow_line_gets_the_time_that_the_bytes_need() -> None:
    slow = ModbusEndpoint.model_validate({"serial": {"port": "/dev/ttyS0", "baudrate": 1200}})
    request = ModbusRequests(slow).read(1, "holding", 0, 125, timeout_s=1.0, pause_s=0.0)
    assert request.timeout_s == pytest.approx(1.0 + (8 + 255) * 11 / 1200)
    assert ask(TCP, 0, timeout_s=1.0).timeout_s == 1.0


def test_a_closed_link_answers_all_and_takes_no_more() -> None:
    async def work() -> None:
        for link, requests in (
            (MbapLink("plc:502", datagrams=False), TCP),
            (RtuLink("plc:502", RtuFrames(), 0.0), RTU),
        ):
            transport = Sent()
            link.connection_made(transport)
            future = link.send(ask(requests, 1))
            link.connection_lost(ConnectionResetError(104, "Connection reset by peer"))
            assert await future is None
            with pytest.raises(LinkError, match="the connection to plc:502 broke: Connection reset by peer"):
                link.send(ask(requests, 1))

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_certificate_that_the_peer_refuses_is_an_auth_error() -> None:
    import ssl

    async def work() -> None:
        link = MbapLink("plc:802", datagrams=False)
        link.connection_made(Sent())
        error = ssl.SSLError(1, "alert")
        error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        link.connection_lost(error)
        with pytest.raises(AuthError, match="plc:802 does not accept our certificate"):
            link.check()

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_unit_in_doubt_is_waited_for_the_others_are_not() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        link = RtuLink("plc:502", RtuFrames(), 0.0)
        link.connection_made(Sent())
        started = loop.time()
        assert await link.ask(ask(RTU, 1, timeout_s=0.05)) is None
        await link.wait_ready(2)
        assert loop.time() - started < 0.08
        await link.wait_ready(1)
        assert loop.time() - started >= 0.1
        link.close()

    run_virtual(work(), patience_s=SOCKETS_S)
