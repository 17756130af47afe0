"""`make bench-core`: the window engine beside the machine's own bound and what a user would pick instead.

Every stream is a process of its own on one core; in it the contenders run in turn, several times, and medians
are taken. The last line is one line of JSON. Ratios by the number of series are the worst of both shapes
(round-robin, zipf 1.1) and both orders (ordered, 1 % of the samples late).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import PROFILES
from inputs import COUNTS, Case, cases
from peers import PEERS
from plot import bars

HERE = Path(__file__).parent
PLOT = HERE.parents[1] / "docs/performance-core.svg"
CONTENDERS = ("bound", *PROFILES, *PEERS)
Found = dict[Case, dict[str, float]]


def child(script: str, *arguments: str) -> Any:
    """What a script prints, as JSON."""
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def table(title: str, columns: list[str], rows: list[tuple[str, list[str]]]) -> None:
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, cells in rows:
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def ratios(
    found: Found, of: Callable[[dict[str, float]], float], worst: Callable[..., float]
) -> dict[str, float]:
    """By number of series, the worst of its streams."""
    counts = {case.count for case in found}
    return {
        count: round(worst(of(each) for case, each in found.items() if case.count == count), 2)
        for count in COUNTS
        if count in counts
    }


def measured(counts: list[str], samples: int, repeats: int) -> Found:
    found: Found = {}
    for case in cases(counts):
        print(f"{case} ...", file=sys.stderr, flush=True)
        options = ["--samples", str(samples), "--repeats", str(repeats)]
        found[case] = child("case.py", case.count, case.shape, case.order, *options)
    return found


def memory(counts: list[str], samples: int) -> list[tuple[str, list[str]]]:
    tools = [name for name in (*PROFILES, *PEERS) if name != "ddsketch"]
    return [
        (tool, [str(child("memory.py", tool, count, str(samples))) for count in counts]) for tool in tools
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--counts", nargs="+", choices=list(COUNTS), default=list(COUNTS))
    parser.add_argument("--plot", type=Path, default=PLOT)
    arguments = parser.parse_args()
    small = child("small.py")
    found = measured(arguments.counts, arguments.samples, arguments.repeats)
    rows = [(name, [f"{each[name]:.1f}" for each in found.values()]) for name in CONTENDERS]
    table("Nanoseconds a sample", [str(case) for case in found], rows)
    table("Peak memory over the input, MB", arguments.counts, memory(arguments.counts, arguments.samples))
    print("\n" + "\n".join(f"{name}: {value}" for name, value in small.items()))
    plain = [case for case in found if case.order == "ordered"]
    bars(
        arguments.plot,
        f"Nanoseconds a sample, {arguments.samples:,} samples in order, one core",
        [f"{case.count} {case.shape}" for case in plain],
        {name: [found[case][name] for case in plain] for name in CONTENDERS if name != "ddsketch"},
    )
    summary = {
        "full_over_bound": ratios(found, lambda each: each["full"] / each["bound"], max),
        "quantiles_over_full": ratios(found, lambda each: each["quantiles"] / each["full"], max),
        "polars_over_basic": ratios(found, lambda each: each["polars"] / each["basic"], min),
        "numpy_over_basic": ratios(found, lambda each: each["numpy"] / each["basic"], min),
        "worst_of": "round-robin and zipf, ordered and late",
        **small,
    }
    print(f"\n{json.dumps(summary)}")


if __name__ == "__main__":
    main()
