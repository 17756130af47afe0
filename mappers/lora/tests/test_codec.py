"""Codecs in a real helper process, called by a real session."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from devicemesh_lora import codec as codec_module
from devicemesh_lora import codec_source, helper
from devicemesh_lora.codec import Codecs
from devicemesh_lora.codec_source import CodecError
from devicemesh_lora.declared_codec import Codec
from devicemesh_lora.model import LoraCommand

from devicemesh.mapper import Invocation, Quality, Write
from devicemesh.spec.values import ValueType

Run = Callable[[Any], None]
PROBE = """
function decodeUplink(input) {
  if (input.bytes.length < 2) return { errors: ['too short'] };
  return {
    data: { temperature: (input.bytes[0] << 8 | input.bytes[1]) / 10, port: input.fPort, at: input.recvTime },
    warnings: input.bytes[0] > 100 ? ['hot'] : [],
  };
}
function normalizeUplink(input) { return { data: { air: { temperature: input.data.temperature } } }; }
function encodeDownlink(input) {
  if (input.data.interval > 1000) return { errors: ['interval is at most 1000'] };
  return { bytes: [1, input.data.interval >> 8, input.data.interval & 255], fPort: 9 };
}
"""


def test_an_uplink_is_decoded_and_normalised(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        node = kit.node(port, codec={"source": PROBE})
        points = [
            kit.point(0, node, "float64", pointer="/temperature"),
            kit.point(1, node, "uint8", pointer="/port"),
            kit.point(2, node, "string", pointer="/at"),
            kit.point(3, node, "float64", pointer="/air/temperature", normalized=True),
            kit.point(4, node, "uint8", offset=0),
            kit.point(5, kit.gateway(port), "float64", stat="lastSeen"),
        ]
        async with kit.session(points) as (session, heard), kit.forwarder(port) as radio:
            assert session.decoding.codecs.helper is None
            radio.uplink(kit.frame(1, b"\x00\xd7", 7))
            await kit.until(lambda: heard.of(3))
            assert heard.of(0) == [21.5] and heard.of(1) == [7] and heard.of(3) == [21.5]
            assert heard.of(2)[0].endswith("Z") and not heard.errors
            radio.uplink(kit.frame(2, b"\x00", 7))
            await kit.until(lambda: heard.errors)
            assert "too short" in str(heard.errors[0]) and heard.of(4) == [0, 0]
            radio.uplink(kit.frame(3, b"\x00\xd8", 7))
            await kit.until(lambda: len(heard.of(0)) == 2)

    run(work())


SHAPE = "function decodeUplink(i) { if (i.bytes[0] === 99) [].reverse.call({ length: Math.pow(2, 40) }); return { data: { v: i.bytes[0] } }; }"


class Asking:
    """Codecs without a session: what they answered, by device."""

    def __init__(self, codecs: Codecs) -> None:
        self.codecs = codecs
        self.answers: dict[str, list[Any]] = {}

    def ask(self, key: str, *payload: int, samples: int = 1) -> None:
        def done(result: Any) -> None:
            value = result if isinstance(result, CodecError) else result["data"]["v"]
            self.answers.setdefault(key, []).append(value)

        self.codecs.uplink(key, 1, bytes(payload), 0, done, samples=samples, normalized=False)

    def reasons(self, key: str) -> list[str]:
        return [one.reason for one in self.answers.get(key, []) if isinstance(one, CodecError)]


def with_codecs(run: Run, sources: dict[str, str], work: Callable[[Asking], Any]) -> None:
    async def all_of_it() -> None:
        codecs = Codecs()
        codecs.declare({key: Codec(source=source) for key, source in sources.items()})
        task = asyncio.create_task(codecs.running())
        try:
            await work(Asking(codecs))
            assert not task.done(), task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    run(all_of_it())


def test_calls_around_one_that_ends_the_helper_are_not_lost(kit: Any, run: Run) -> None:
    async def work(asking: Asking) -> None:
        for number in range(20):
            asking.ask("good", number)
            asking.ask("bad", 99 if number == 7 else number)
        await kit.until(
            lambda: len(asking.answers.get("good", [])) + len(asking.answers.get("bad", [])) == 40
        )
        assert asking.answers["good"] == list(range(20))
        assert asking.reasons("bad") == ["CodecDied"] and asking.codecs.starts == 2
        assert [one for one in asking.answers["bad"] if isinstance(one, int)] == [
            n for n in range(20) if n != 7
        ]

    with_codecs(run, {"good": SHAPE, "bad": SHAPE + "// another one"}, work)


@pytest.mark.parametrize("at_work", [False, True])
def test_a_helper_that_is_killed_is_started_anew_and_nothing_is_lost(
    kit: Any, run: Run, at_work: bool
) -> None:
    async def work(asking: Asking) -> None:
        asking.ask("a", 1)
        await kit.until(lambda: asking.answers)
        assert asking.codecs.helper is not None
        if at_work:  # stopped first: a call that it has begun would be to blame
            os.kill(asking.codecs.helper.pid, signal.SIGSTOP)
            asking.ask("a", 2)
            await kit.until(lambda: not asking.codecs._devices["a"].waiting)
        os.kill(asking.codecs.helper.pid, signal.SIGKILL)
        asking.ask("a", 3)
        await kit.until(lambda: asking.answers["a"][-1] == 3)
        assert asking.answers["a"] == ([1, 2, 3] if at_work else [1, 3]) and asking.codecs.starts == 2

    with_codecs(run, {"a": SHAPE}, work)


@pytest.mark.parametrize("starved_s", [30.0, 0.3])
def test_a_helper_that_gets_no_processor_has_more_time(
    kit: Any, run: Run, monkeypatch: pytest.MonkeyPatch, starved_s: float
) -> None:
    monkeypatch.setattr(helper, "HANG_S", 0.1)
    monkeypatch.setattr(helper, "LOOK_S", 0.02)
    monkeypatch.setattr(helper, "STARVED_S", starved_s)

    async def work(asking: Asking) -> None:
        asking.ask("a", 1)
        await kit.until(lambda: asking.answers)
        assert asking.codecs.helper is not None
        pid = asking.codecs.helper.pid
        os.kill(pid, signal.SIGSTOP)
        asking.ask("a", 2)
        if starved_s == 30.0:
            await asyncio.sleep(0.5)  # many times what it had, were it at work
            os.kill(pid, signal.SIGCONT)
        await kit.until(lambda: asking.answers["a"] == [1, 2])
        assert asking.codecs.starts == (1 if starved_s == 30.0 else 2)

    with_codecs(run, {"a": SHAPE}, work)


def test_a_codec_that_kills_again_and_again_is_put_aside(
    kit: Any, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(helper, "HANG_S", 0.3)
    monkeypatch.setattr(helper, "LOOK_S", 0.05)
    monkeypatch.setattr(codec_source, "ASIDE_S", 0.5)

    async def work(asking: Asking) -> None:
        for key in ("bad", "twin", "bad", "twin", "bad"):  # they share a codec
            asking.ask(key, 99)
            asking.ask("good", 1)
        await kit.until(lambda: len(asking.reasons("bad") + asking.reasons("twin")) == 5)
        assert (
            sorted(asking.reasons("bad") + asking.reasons("twin")) == ["CodecAside"] * 2 + ["CodecDied"] * 3
        )
        said = next(
            str(one) for one in asking.answers["bad"] + asking.answers["twin"] if one.reason == "CodecAside"
        )
        assert "is put aside for" in said and "did not end within" in said and "put aside" in caplog.text
        await kit.until(lambda: len(asking.answers["good"]) == 5)

        def again() -> bool:
            asking.ask("bad", 5)
            return 5 in asking.answers["bad"]

        await kit.until(again)
        assert asking.codecs.starts == 4

    with_codecs(run, {"good": SHAPE + "//", "bad": SHAPE, "twin": SHAPE}, work)


def test_a_slow_codec_loses_its_own_uplinks_and_delays_nobody(
    kit: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_module, "MOST_WAITING", 40)
    slow = "function decodeUplink(i) { var t = Date.now(); while (Date.now() - t < 40); return { data: { v: 0 } }; }"

    async def work(asking: Asking) -> None:
        asking.ask("slow", 1)
        await kit.until(lambda: asking.answers)  # it is known to be slow now
        for _ in range(200):
            asking.ask("slow", 1, samples=3)
        for number in range(10):
            asking.ask("quick", number)
        await kit.until(lambda: len(asking.answers.get("quick", [])) == 10)
        assert len(asking.answers["slow"]) < 20, "a neighbour waits for a slow codec"
        assert asking.codecs.dropped == (200 - codec_module.MOST_WAITING) * 3
        await kit.until(lambda: len(asking.answers["slow"]) == 1 + codec_module.MOST_WAITING)

    with_codecs(run, {"slow": slow, "quick": SHAPE}, work)


def test_more_devices_than_contexts(kit: Any, run: Run) -> None:
    names = [f"d{number}" for number in range(700)]

    async def work(asking: Asking) -> None:
        for value in (1, 2):
            for name in names:
                asking.ask(name, value)
        await kit.until(lambda: sum(map(len, asking.answers.values())) == 1400, 30)
        assert all(asking.answers[name] == [1, 2] for name in names) and asking.codecs.starts == 1

    with_codecs(run, dict.fromkeys(names, SHAPE), work)


def test_devices_that_fill_their_memory_do_not_take_that_of_others(kit: Any, run: Run) -> None:
    hoard = "var all = []; function decodeUplink(i) { all.push(new Uint8Array(12e6).fill(1)); all = all.slice(-1); return { data: { v: 1 } }; }"
    names = [f"d{number}" for number in range(60)]

    async def work(asking: Asking) -> None:
        for value in (1, 2):
            asking.ask("good", value)
            for name in names:
                asking.ask(name, value)
        await kit.until(lambda: sum(map(len, asking.answers.values())) == 122, 30)
        assert asking.answers["good"] == [1, 2] and asking.codecs.starts == 1
        assert all(asking.answers[name] == [1, 1] for name in names)

    with_codecs(run, {"good": SHAPE, **dict.fromkeys(names, hoard)}, work)


def test_what_published_codecs_expect_around_them(kit: Any, run: Run) -> None:
    source = """
    var decoded = {};  // as in module.exports of some, implicit globals, and words of Node.js
    module.exports = { decodeUplink: function (input) {
      total = 0;
      console.log('hello', input); console.error('x');
      const { Buffer } = require('buffer');
      var b = Buffer.from(input.bytes);
      for (i = 0; i < b.length; i++) total += b.readUInt8(i);
      if (b.readInt16BE(0) !== -2 || b.readUInt32LE(0) !== 0x0201feff || b.toString('hex') !== 'fffe0102c3a9') throw 1;
      if (Buffer.from('fffe', 'hex').toString('base64') !== '//4=' || Buffer.from('//4=', 'base64')[1] !== 254) throw 2;
      if (new TextDecoder('utf-8').decode(new Uint8Array([0xc3, 0xa9])) !== 'é' || b.slice(4).toString() !== 'é') throw 3;
      if (Buffer.concat([b, b]).length !== 12 || !Buffer.isBuffer(b) || b.readFloatBE(0) === 0) throw 4;
      if (!(input.recvTime instanceof Date) || Object.keys(input.variables).length) throw 5;
      return { data: { v: total } };
    } };"""

    async def work(asking: Asking) -> None:
        asking.ask("a", 0xFF, 0xFE, 1, 2, 0xC3, 0xA9)
        own = "function Buffer(size) { this.size = size; } function decodeUplink() { return { data: { v: new Buffer(7).size } }; }"
        asking.codecs.declare({"a": Codec(source=source), "b": Codec(source=own)})
        asking.ask("b", 1)
        await kit.until(lambda: len(asking.answers) == 2)
        assert asking.answers == {"a": [0xFF + 0xFE + 3 + 0xC3 + 0xA9], "b": [7]}

    with_codecs(run, {"a": source}, work)


def test_a_codec_s_file_is_read_again_when_it_changes(
    kit: Any, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_source, "LOOK_AGAIN_S", 0.0)
    (home / "codecs").mkdir()
    file = home / "codecs" / "probe.js"

    async def work() -> None:
        port = kit.free_port()
        points = [kit.point(0, kit.node(port, codec={"file": "probe.js"}), "float64", pointer="/v"),
                  kit.point(1, kit.gateway(port), "float64", stat="lastSeen")]  # fmt: skip
        async with kit.session(points) as (_, heard), kit.forwarder(port) as radio:
            await kit.until(lambda: heard.errors)
            assert f"can't read the codec {file}: No such file" in str(heard.errors[0])
            assert heard.errors[0].reason == "CodecMissing"
            for counter, text in enumerate(
                ("{ return { data: { v: 1 } }; }", "{ return { data: { v: 22 } }; }"), 1
            ):
                file.write_text("function decodeUplink(input) " + text)
                radio.uplink(kit.frame(counter))
                await kit.until(lambda counter=counter: len(heard.of(0)) == counter)
            assert heard.of(0) == [1, 22]
            file.unlink()
            radio.uplink(kit.frame(3))
            await kit.until(lambda: len(heard.errors) == 2)

    run(work())


def test_points_without_a_codec_say_so_at_once(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        points = [kit.point(0, kit.node(port), "float64", pointer="/v", port=3)]
        async with kit.session(points) as (_, heard):
            await kit.until(lambda: heard.errors)
            assert "has no codec: declare `codec` in its endpoint" in str(heard.errors[0])

    run(work())


@pytest.mark.parametrize(
    ("installed", "said"),
    [(set(), "pip install devicemesh-lora[codecs]"), ({"quickjs-ng", "quickjs"}, "are both installed")],
)
def test_what_to_install(
    kit: Any, run: Run, monkeypatch: pytest.MonkeyPatch, installed: set[str], said: str
) -> None:
    def distribution(name: str) -> None:
        if name not in installed:
            raise helper.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(helper.importlib.metadata, "distribution", distribution)
    helper._engine.cache_clear()

    async def work() -> None:
        port = kit.free_port()
        node = kit.node(port, codec={"source": PROBE})
        points = [kit.point(0, node, "float64", pointer="/temperature"), kit.point(1, node, "uint8", offset=1),
                  kit.point(2, kit.gateway(port), "float64", stat="lastSeen")]  # fmt: skip
        async with kit.session(points) as (session, heard), kit.forwarder(port) as radio:
            await kit.until(lambda: heard.errors)
            assert said in str(heard.errors[0]) and heard.errors[0].reason == "CodecMissing"
            radio.uplink(kit.frame(1))
            await kit.until(lambda: heard.of(1) and len(heard.errors) == 2)
            (outcome,) = await session.write([Write(points[0], 1.0)])
            assert outcome.error is not None and said in str(outcome.error)

    try:
        run(work())
    finally:
        helper._engine.cache_clear()


def test_writes_and_commands_go_through_the_codec(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        node = kit.node(port, codec={"source": PROBE})
        points = [kit.point(0, node, "uint16", pointer="/interval"),
                  kit.point(1, kit.gateway(port), "float64", stat="lastSeen")]  # fmt: skip
        async with kit.session(points) as (session, _), kit.forwarder(port) as radio:
            writing = asyncio.create_task(session.write([Write(points[0], 600), Write(points[0], 5000)]))
            await kit.until(lambda: session.network.by_eui[kit.eui].queue)
            radio.uplink(kit.frame(1))
            done, refused = await writing
            assert done.error is None and "interval is at most 1000" in str(refused.error)
            assert kit.down(radio.sent[0]) == (9, bytes.fromhex("010258"))
            call = Invocation("default/n", "set", node, LoraCommand(data={"interval": 1}), {"interval": 700},
                              {"interval": ValueType.INT64})  # fmt: skip
            calling = asyncio.create_task(session.invoke(call))
            await kit.until(lambda: session.network.by_eui[kit.eui].queue)
            radio.uplink(kit.frame(2))
            assert await calling == {"gateway": kit.gateway_eui, "port": 9, "bytes": "0102bc"}
            with pytest.raises(CodecError, match="at most 1000"):
                await session.invoke(Invocation("default/n", "set", node, LoraCommand(), {"interval": 1001}))

    run(work())


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        ("undefined", "gives back nothing"), ("{ bytes: 'ab' }", "gives back no bytes"),
        ("{ bytes: [1, 300] }", "are no bytes"), ("{ bytes: [1.5] }", "are no bytes"),
        ("{ bytes: [1], fPort: 0 }", "an fPort of 0"), ("{ bytes: [1], fPort: 'x' }", "an fPort of 'x'"),
        ("{ bytes: new Array(300).fill(0) }", "300 bytes"), ("{ errors: ['no', 'never'] }", "no; never"),
        ("{ bytes: { length: 4e9 } }", "4000000000 bytes"),
        ("(Array.prototype.toJSON = function () { return this.length ? 4e9 : [] }, { bytes: [1] })", "are no bytes"),
        ("(Object.prototype.toJSON = () => ({}), { bytes: [1] })", "are no bytes"),
        ("(Object.prototype.toJSON = () => ({ errors: 1 }), { bytes: [1] })", "its toJSON"),
    ],
)  # fmt: skip
def test_downlinks_that_a_codec_can_not_make(kit: Any, run: Run, returns: str, said: str) -> None:
    async def work(asking: Asking) -> None:
        with pytest.raises(CodecError, match=said):
            await asking.codecs.encoded("a", {"x": 1})
        with pytest.raises(CodecError, match="has no decodeUplink"):
            await asking.codecs.asked("a", "decodeUplink", {"bytes": []})
        with pytest.raises(CodecError, match="can't be given that"):
            await asking.codecs.encoded("a", {"x": b"bytes"})

    with_codecs(run, {"a": f"function encodeDownlink() {{ return {returns}; }}"}, work)


def test_whoever_waits_when_the_link_closes_is_told(run: Run) -> None:
    async def work() -> None:
        codecs = Codecs()
        codecs.declare({"a": Codec(source=PROBE)})
        task = asyncio.create_task(codecs.running())
        waiting = asyncio.create_task(codecs.encoded("a", {"interval": 1}))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task, waiting})
        assert "the link is closed" in str(waiting.exception())

    run(work())


def test_the_mark_of_quality_is_undecodable(kit: Any) -> None:
    from devicemesh_lora.decoding import batches
    from devicemesh_lora.plan import Plan

    plan = Plan([kit.point(0, kit.node(1700), "float64", pointer="/v"),
                 kit.point(1, kit.node(1700), "float64", pointer="/n", normalized=True)])  # fmt: skip
    (batch,) = batches(plan, 1, CodecError("why", reason="CodecTimeout"), 0)
    assert batch.quality == Quality.UNDECODABLE and batch.error is not None
    good, bad = batches(plan, 1, {"data": {"v": 1}, "normalizeErrors": ["none"]}, 0)
    assert list(good.slot) == [0] and list(bad.slot) == [1] and "none" in str(bad.error)
