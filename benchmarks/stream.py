"""A discovery whose weights stay on the disk, under a cap smaller than the weights.

Each layer is read for its turn, the next one meanwhile, and dropped after it; so what
is held does not grow with the number of layers. Random 4-bit weights of a real shape
are written to a temporary directory, once for each number of layers, and searched in a
process of its own that may not have as much memory as the weights take: the limit is on
its private data (RLIMIT_DATA), so no page cache and no shared library counts, and what
is over it fails. The prompts are single words, without a chat template: MLX's CPU
backend computes 4-bit products slowly.
With --whole the same circuit is found with all weights in memory, without the cap.
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
from cna_mlx.diagnostics.bench.discovering import workload
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.selection import Selection
from cna_mlx.models.memory.plan import streamed_bytes
from cna_mlx.prompts import PromptSet

WORDS = ("yes", "no", "red", "blue", "up", "down", "day", "night")
STATUS = Path("/proc/self/status")


def status(key):
    """A line of the process's status in bytes; None where the system has none.

    VmData is what RLIMIT_DATA counts. VmHWM is the most that was resident: getrusage
    would tell the parent's too, which made the weights.
    """
    if not STATUS.exists():
        return None
    lines = STATUS.read_text().splitlines()
    return next(int(one.split()[1]) * 1024 for one in lines if key in one)


def search(directory, prompts, cap):
    """Discover; the neurons, the peaks, the forecast. In a process of its own."""
    half = prompts // 2
    contrast = PromptSet.from_prompts(WORDS[:half], WORDS[half:prompts])
    plain = Rendering("off")
    plans = []
    stream = "yes" if cap else "no"
    model, tokenizer = load(directory, stream=stream, planned=plans.append)
    if cap and (used := status("VmData")) is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (used + cap, hard))
    started = time.perf_counter()
    selection = Selection(universal=False)
    found = run_discovery(model, tokenizer, contrast, selection, rendering=plain)
    seconds = time.perf_counter() - started
    ids = [
        render_prompt(tokenizer, one)
        for one in (*contrast.positive, *contrast.negative)
    ]
    work = workload(ids)
    plan = plans[0]
    forecast = streamed_bytes(plan.shape, plan.layer, plan.table, work)
    circuit = found.circuit
    return {
        "peak_bytes": found.peak_memory,
        "forecast_bytes": forecast if cap else None,
        "resident_bytes": status("VmHWM"),
        "seconds": round(seconds, 1),
        "neurons": [list(neuron) for neuron in circuit.neurons],
        "fingerprint": circuit.model.fingerprint,
    }


def in_a_process(directory, prompts, cap):
    """The result of :func:`search` there."""
    command = [sys.executable, __file__, "--search", directory, "--prompts"]
    command += [str(prompts), "--cap", str(cap)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit(f"the search failed: {found.stderr[-2000:]}")
    return json.loads(found.stdout.splitlines()[-1])


def measure(arguments, layers):
    """One number of layers: written, searched, held against what was said."""
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="llama-70b")
    parser.add_argument("--precision", choices=PRECISIONS, default="4-bit")
    parser.add_argument("--layers", default="4,16", help="numbers of layers")
    parser.add_argument("--prompts", type=int, default=2, choices=range(2, 9, 2))
    parser.add_argument("--share", type=float, default=0.9, help="cap / weights")
    parser.add_argument("--directory", help="for the weights; else a temporary one")
    parser.add_argument("--whole", action="store_true", help="also in memory")
    parser.add_argument("--search", help=argparse.SUPPRESS)
    parser.add_argument("--cap", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search:
        print(json.dumps(search(arguments.search, arguments.prompts, arguments.cap)))
        return
    print(__doc__.partition("\n\n")[2].partition("The last line")[0])
    results = []
    for layers in map(int, arguments.layers.split(",")):
        one = measure(arguments, layers)
        results.append(one)
        share = one["peak_bytes"] / one["weight_bytes"]
        cap = one["cap_bytes"] / 1e9
        print(
            f"{layers} layers, {one['weight_bytes'] / 1e9:.2f} GB, capped at "
            f"{cap:.2f} GB: at most {one['peak_bytes'] / 1e6:.0f} MB "
            f"({share:.1%}), forecast {one['forecast_bytes'] / 1e6:.0f} MB, "
            f"resident {(one['resident_bytes'] or 0) / 1e6:.0f} MB, "
            f"{one['seconds']:.0f} s"
        )
    what = {key: getattr(arguments, key) for key in ("shape", "precision", "prompts")}
    print(json.dumps({**what, "results": results}))


if __name__ == "__main__":
    main()
