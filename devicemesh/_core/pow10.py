"""Writes pow10.h, the table behind shortest.c: `python -m devicemesh._core.pow10 > pow10.h`."""

from __future__ import annotations

SMALLEST, LARGEST = -292, 324  # the powers of ten that printing any double needs

_HEAD = """\
/* Written by pow10.py: the 128 leading bits of 10^{smallest} to 10^{largest}, rounded up: {{high, low}}. */
#ifndef DEVICEMESH_POW10_H
#define DEVICEMESH_POW10_H

#include <stdint.h>

enum {{ POW10_SMALLEST = {smallest}, POW10_LARGEST = {largest} }};

static const uint64_t POW10[POW10_LARGEST - POW10_SMALLEST + 1][2] = {{
"""


def leading_bits(exponent: int) -> int:
    """The 128 leading bits of 10^exponent, rounded up."""
    numerator, denominator = (10**exponent, 1) if exponent >= 0 else (1, 10**-exponent)
    shift = 128 - (numerator.bit_length() - denominator.bit_length())
    scaled = -(-(numerator << max(shift, 0)) // (denominator << max(-shift, 0)))
    if scaled >> 128:  # one bit too many: the quotient's length is only known to within one
        shift -= 1
        scaled = -(-(numerator << max(shift, 0)) // (denominator << max(-shift, 0)))
    return scaled


def header() -> str:
    """The whole file."""
    bits = [leading_bits(exponent) for exponent in range(SMALLEST, LARGEST + 1)]
    rows = [f"    {{0x{each >> 64:016X}, 0x{each & (1 << 64) - 1:016X}}},\n" for each in bits]
    return _HEAD.format(smallest=SMALLEST, largest=LARGEST) + "".join(rows) + "};\n\n#endif\n"


if __name__ == "__main__":
    print(header(), end="")
