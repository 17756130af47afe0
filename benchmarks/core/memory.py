"""Peak memory of one contender over its input, in a process of its own: `memory.py TOOL COUNT SAMPLES`.

Prints megabytes. What a tool keeps of the input in a form of its own counts as its memory.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

os.environ.update(POLARS_MAX_THREADS="1", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

from engine import PROFILES, Stream
from inputs import Case, make
from peers import PEERS


def kilobytes(which: str) -> int:
    """VmRSS, or VmHWM: the most it has been."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{which}:\s+(\d+) kB", status)
    assert found
    return int(found[1])


def main() -> None:
    tool, count, samples = sys.argv[1], sys.argv[2], int(sys.argv[3])
    inputs = make(Case(count, "round-robin", "ordered"), samples)
    before = kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    call = Stream(inputs, tool) if tool in PROFILES else PEERS[tool](inputs)
    call()
    print(round((kilobytes("VmHWM") - before) / 1e3))


if __name__ == "__main__":
    main()
