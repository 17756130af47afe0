"""The machine's own bound, compiled where it runs: `bound.c`."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from inputs import Inputs

LINES = 128  # bytes a series


def _compiled() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "bound.so")
        source = Path(__file__).with_name("bound.c")
        subprocess.run(
            ["cc", "-std=c11", "-O3", "-shared", "-fPIC", str(source), "-o", str(library)], check=True
        )
        return ctypes.CDLL(str(library))


def bound(inputs: Inputs) -> Callable[[], None]:
    """A call touches the lines of every sample once. The lines lie in huge pages, where there are such."""
    touch2 = _compiled().touch2
    memory = mmap.mmap(-1, inputs.series_count * LINES)
    memory.madvise(mmap.MADV_HUGEPAGE)
    lines = (ctypes.c_char * len(memory)).from_buffer(memory)
    columns = [inputs.series, inputs.times, inputs.values, inputs.qualities]
    addresses = [ctypes.c_void_p(column.ctypes.data) for column in columns]
    count = ctypes.c_size_t(len(inputs.series))

    def call() -> None:
        touch2(lines, *addresses, count)

    return call
