"""Split the time of a command into starting Python, imports, loading and work.

Each phase is a process, so the disk's cache is warm after the first:

- Python: `python -c pass`;
- imports: a process that imports what the command imports, less Python; a package's
  share is that of its modules' own times under `python -X importtime`;
- load: `cna_mlx.load` of the model after these imports, less these imports;
- work: the rest of the command.

Figures are medians of some rounds: wall time, and CPU time, which other programs
disturb less. Shares are of CPU time. The last line is one JSON object.

    python benchmarks/startup.py diff demo -p "How do I cast a sleep spell?"
    python benchmarks/startup.py discover demo --no-expect
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np

_LINE = re.compile(r"import time: +(\d+) \| +\d+ \| +(\S+)")
_LEAST = 0.01  # seconds: packages below are added up
_IMPORT = """
import contextlib, importlib
for name in {modules!r}:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
"""


def seconds_of(words: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a Python process."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, *words]
    subprocess.run(words, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, used


def own_times(
    words: list[str], environment: dict[str, str]
) -> tuple[list[str], Counter[str]]:
    """The modules that a command imports, in order, and seconds by package."""
    words = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(
        words, env=environment, capture_output=True, check=True, text=True
    )
    modules, seconds = [], Counter[str]()
    for microseconds, name in _LINE.findall(done.stderr):
        top = name.partition(".")[0]
        package = "standard library" if top in sys.stdlib_module_names else top
        modules.append(name)
        seconds[package] += int(microseconds) / 1e6
    return modules, seconds


def show(name: str, seconds: np.ndarray, whole: np.ndarray) -> None:
    """Print a phase: wall, CPU, share of the whole CPU time."""
    wall, cpu = seconds
    print(f"{name:<20}{wall:>8.2f} s{cpu:>8.2f} s{cpu / whole[1]:>7.0%}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND MODEL")
    arguments = parser.parse_args()
    command = ["-m", "cna_mlx", *arguments.command]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "CNA_MLX_CACHE": cache}
        seconds_of(command, environment)  # fills the caches
        modules, packages = own_times(command, environment)
        imports = _IMPORT.format(modules=modules)
        load = f"{imports}\nfrom cna_mlx import load\nload({arguments.command[1]!r})"
        runs = (["-c", "pass"], ["-c", imports], ["-c", load], command)
        rounds = [
            [seconds_of(run, environment) for run in runs]
            for _ in range(arguments.rounds)
        ]
    ends = np.median(rounds, axis=0)  # [4, 2]: of the phases, wall and CPU
    whole, names = ends[-1], ("Python", "imports", "load", "work")
    phases = dict(zip(names, np.diff(ends, axis=0, prepend=0), strict=True))
    print(f"{'':<20}{'wall':>10}{'CPU':>10}{'share':>7}")
    for name, seconds in phases.items():
        show(name, seconds, whole)
        if name == "imports":
            scale = seconds / packages.total()
            for package, own in packages.most_common():
                if own * scale[1] >= _LEAST:
                    show(f"  {package}", own * scale, whole)
    show("whole", whole, whole)
    result = {
        "command": arguments.command,
        "modules": len(modules),
        **{name: seconds.round(3).tolist() for name, seconds in phases.items()},
        "whole": whole.round(3).tolist(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
