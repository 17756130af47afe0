"""Every plausible reading of some bytes."""

from devicemesh.cli.interpret import interpretations


def test_interpretations():
    found = dict(interpretations(bytes.fromhex("44960000")))
    assert found["uint16 big"] == 0x4496
    assert isinstance(found["uint16 big"], int)
    assert found["float32 big"] == 1200.0
    assert found["uint32 word-swapped"] == 0x00004496
    assert "float64 big" not in found
    assert dict(interpretations(b"Pump 1\0\0"))["string"] == "Pump 1"
    assert interpretations(b"") == []
    assert "float32 big" not in dict(interpretations(b"\x7f\xc0\0\0"))
