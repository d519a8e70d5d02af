"""Discover with the weights on the disk, in less memory than the weights take.

Only two layers are in memory at a time, so the peak does not grow with the number of
layers. For each number of layers this writes random weights of a real shape to a
temporary directory and runs a discovery in a new process that may not allocate as much
memory as the weights take. The limit applies to private data (RLIMIT_DATA), not to the
page cache or shared libraries; an allocation beyond it fails. The prompts are single
words without a chat template, because MLX's CPU backend is slow with 4-bit products.
With --whole, also compares the circuit with one found in memory, without the limit.
The last line is one JSON object.

    python benchmarks/stream.py --shape llama-70b --layers 4,16
    python benchmarks/stream.py --shape llama-1b --layers 32 --whole
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlx.core as mx
from random_models import PRECISIONS, SHAPES, make, save

from cna_mlx import Rendering, load, render_prompt
from cna_mlx.diagnostics.bench.walks import workload
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.selection import Selection
from cna_mlx.models.memory.plan import streamed_bytes
from cna_mlx.prompts import PromptSet

WORDS = ("yes", "no", "red", "blue", "up", "down", "day", "night")
STATUS = Path("/proc/self/status")


def status(key):
    """A value of the process's status in bytes; None on systems without one.

    VmData is what RLIMIT_DATA counts, VmHWM the peak of resident memory. (getrusage
    would include the parent's, which wrote the weights.)
    """
    if not STATUS.exists():
        return None
    lines = STATUS.read_text().splitlines()
    return next(int(one.split()[1]) * 1024 for one in lines if key in one)


def search(directory, prompts, cap):
    """Discover in this process: the neurons, the peaks and the forecast."""
    half = prompts // 2
    contrast = PromptSet.from_prompts(WORDS[:half], WORDS[half:prompts])
    plans = []
    stream = "yes" if cap else "no"
    model, tokenizer = load(directory, stream=stream, planned=plans.append)
    if cap and (used := status("VmData")) is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (used + cap, hard))
    started = time.perf_counter()
    work = model, tokenizer, contrast, Selection(universal=False)
    found = run_discovery(*work, rendering=Rendering("off"))
    seconds = time.perf_counter() - started
    ids = [render_prompt(tokenizer, one) for one in WORDS[:prompts]]
    (plan,) = plans
    forecast = streamed_bytes(plan.shape, plan.layer, plan.table, workload(ids))
    return {
        "peak_bytes": found.peak_memory,
        "forecast_bytes": forecast if cap else None,
        "resident_bytes": status("VmHWM"),
        "seconds": round(seconds, 1),
        "neurons": [list(neuron) for neuron in found.circuit.neurons],
        "fingerprint": found.circuit.model.fingerprint,
    }


def in_a_process(*arguments):
    """The result of :func:`search` in a new process."""
    command = [sys.executable, __file__, "--search", *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit(f"the search failed: {found.stderr[-2000:]}")
    return json.loads(found.stdout.splitlines()[-1])


def measure(arguments, layers):
    """Write a model with this many layers, and discover from it."""
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        model, config = make(arguments.shape, arguments.precision, layers)
        weights = save(model, config, Path(directory))
        del model
        mx.clear_cache()
        cap = int(arguments.share * weights)
        found = in_a_process(directory, arguments.prompts, cap)
        if arguments.whole:
            whole = in_a_process(directory, arguments.prompts, 0)
            same = ("neurons", "fingerprint")
            found["same"] = all(whole[key] == found[key] for key in same)
            found["whole_seconds"] = whole["seconds"]
    del found["neurons"]
    return {"layers": layers, "weight_bytes": weights, "cap_bytes": cap, **found}


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--search"]:
        directory, prompts, cap = sys.argv[2:]
        print(json.dumps(search(directory, int(prompts), int(cap))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="llama-70b")
    parser.add_argument("--precision", choices=PRECISIONS, default="4-bit")
    parser.add_argument("--layers", default="4,16", help="numbers of layers")
    parser.add_argument("--prompts", type=int, default=2, choices=range(2, 9, 2))
    parser.add_argument("--share", type=float, default=0.9, help="limit / weights")
    parser.add_argument("--directory", help="for the weights; else a temporary one")
    parser.add_argument("--whole", action="store_true", help="also in memory")
    arguments = parser.parse_args()
    results = []
    for layers in map(int, arguments.layers.split(",")):
        results.append(measure(arguments, layers))
        print(results[-1])
    what = {key: getattr(arguments, key) for key in ("shape", "precision", "prompts")}
    print(json.dumps({**what, "results": results}))


if __name__ == "__main__":
    main()
