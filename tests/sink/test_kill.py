"""SIGKILL at any moment: what was reported as stored is there again, in order, under a new epoch."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import struct
import time
from pathlib import Path

from devicemesh.sink.folder import Folder
from devicemesh.sink.outbox import Outbox

ROUNDS = 120
STORED, ACKED, OPENED = b"sao"
CLAIM = struct.Struct("<cQQ")
CONTEXTS = {key: b"device %d" % key for key in range(3)}


def body(epoch: int, position: int, salt: int) -> bytes:
    """Content that says whose it is: any mix-up shows."""
    head = struct.pack("<QQQ", epoch, position, salt)
    return head + hashlib.blake2b(head, digest_size=16).digest() * (1 + position % 40)


def write(folder: Path, claims: int, seed: int) -> None:
    """Append, acknowledge, recycle and sync until killed; say what was done after doing it."""
    rng = random.Random(seed)
    outbox = Outbox(Folder(folder), segment_bytes=20_000, max_bytes=1 << 30)
    os.write(claims, CLAIM.pack(b"o", outbox.epoch, outbox.next))
    while True:
        count = rng.randrange(1, 30)
        first = outbox.next
        records = [(rng.randrange(3), 2, body(outbox.epoch, first + index, seed)) for index in range(count)]
        at = outbox.append(records, CONTEXTS)
        os.write(claims, CLAIM.pack(b"s", at.position, at.position + at.stored))
        dice = rng.random()
        if dice < 0.5:
            items = outbox.read(outbox.acked, 20_000).items
            skip = rng.choice([0, 0, 1, 3]) if len(items) > 4 else 0
            for item in items[skip:] if dice < 0.4 else items:
                os.write(claims, CLAIM.pack(b"a", item.position, 0))  # before: it may be gone from now on
                outbox.ack(item.position, item.sample, item.samples)
        if rng.random() < 0.2:
            outbox.recycle(above_bytes=2000)
        if rng.random() < 0.2:
            outbox.checkpoint()
        if rng.random() < 0.1:
            outbox.sync()


def one_life(folder: Path, seed: int, seconds: float) -> bytes:
    """Let a child write for a while and kill it; return its claims."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            write(folder, writing, seed)
        finally:
            os._exit(1)
    os.close(writing)
    claims = os.read(reading, CLAIM.size)
    assert claims, "the child could not open the outbox"
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    while piece := os.read(reading, 1 << 16):
        claims += piece
    os.close(reading)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the child ended by itself"
    return claims


def test_nothing_stored_is_lost_by_a_kill(tmp_path: Path) -> None:
    rng = random.Random(5)
    waiting: dict[int, bytes] = {}  # what must be there
    seen: dict[tuple[int, int], bytes] = {}  # every (epoch, position) ever met, and its content
    epoch = stored_ever = acked_ever = 0
    for number in range(ROUNDS):
        claims = one_life(tmp_path, number, rng.uniform(0.001, 0.02))
        mine = 0
        for kind, first, last in CLAIM.iter_unpack(claims[: len(claims) // CLAIM.size * CLAIM.size]):
            if kind[0] == OPENED:
                assert first > epoch, "an epoch came again"
                mine = first
            elif kind[0] == STORED:
                stored_ever += last - first
                waiting.update({position: body(mine, position, number) for position in range(first, last)})
            else:
                acked_ever += 1
                waiting.pop(first, None)
        outbox = Outbox(Folder(tmp_path), segment_bytes=20_000)
        assert outbox.epoch > mine
        epoch = outbox.epoch
        assert outbox.next >= max(waiting, default=0)
        position, found = outbox.acked, {}
        while position < outbox.next:
            chunk = outbox.read(position)
            for item in chunk.items:
                assert item.position >= position, "out of order"
                position, found[item.position] = item.position + 1, item.body
                whose, where, salt = struct.unpack_from("<QQQ", item.body)
                assert item.body == body(whose, where, salt), "damaged"
                assert where == item.position, "at another position"
                assert seen.setdefault((whose, where), item.body) == item.body, "two contents, one position"
            position = max(position, chunk.end)
        lost = {position for position in waiting if found.get(position) != waiting[position]}
        assert not lost, f"round {number}: {len(lost)} records lost"
        assert outbox.stats().recovered.dropped["corrupt"] == 0
        waiting = found  # what was written and not yet reported may be there, too
        outbox.close()
    assert stored_ever > 20 * ROUNDS
    assert acked_ever > ROUNDS
