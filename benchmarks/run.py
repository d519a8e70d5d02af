"""Run `cna-mlx bench` on a model of a real shape, with other settings.

The model is a directory, a Hub id, or random weights of a real shape (the default: six
layers of SmolLM2-135M's shape in float32, heavy enough for the ratios to mean
something). With `--whole`, the whole discovery is compared as well (rendering,
cross-validation, split halves and fingerprint, without the bank), and the memory of one
that reads the bank.

With `--short`, for CI, ratios that are far off fail, after a second measurement: a
steered token that takes half as long again as a plain one, two arms that take as long
as two runs, a discovery hardly faster than forward passes. CI machines are shared and
slow, so no other figure of such a run is worth quoting.
The last line is one JSON object; exit code 1 if a ratio is far off.

    python benchmarks/run.py --short
    python benchmarks/run.py --model ./SmolLM2-135M-Instruct --only discovery
    python benchmarks/run.py --shape llama-8b --layers 4 --precision 4-bit --only arms
"""

import argparse
import json
import sys
from dataclasses import fields, replace

from random_models import add_options, chosen

from cna_mlx.diagnostics.bench import SHORT, Bench, Comparison, Settings, to_json
from cna_mlx.diagnostics.bench.suite import PARTS
from cna_mlx.discovery.session import Session
from cna_mlx.prompts import load_contrast
from cna_mlx.util.environment import environment

FAR_OFF = {"steered_decode": 0.7, "arms_2": 1.1, "discovery_vs_forward": 1.5}
SIZES = ("rounds", "tokens", "prompts", "seconds")


def sizes(text):
    """Batch sizes, as 1,2,4."""
    return tuple(int(one) for one in text.split(",") if one)


def measure(model, tokenizer, settings):
    """All results as a dict; prints each as soon as it is measured."""
    bench = Bench(Session.of(model, tokenizer), settings, load_contrast("refusal"))
    results = []
    for result in bench.run():
        results.append(result)
        if isinstance(result, Comparison):
            low, median, high = result.ratio
            ratio = f"{median:6.2f} [{low:.2f}, {high:.2f}]"
            print(f"{result.name:<24} {ratio}, {result.rate:.1f} {result.unit}/s")
    return to_json(results)


def far_off(found):
    """The ratios below what noise explains."""
    ratios = found["ratios"]
    return {
        name: ratios[name]
        for name, least in FAR_OFF.items()
        if ratios.get(name, least) < least
    }


def main() -> None:
    """Measure, print, and with --short judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.set_defaults(layers=6)
    parser.add_argument("--short", action="store_true", help="under a minute; judged")
    parser.add_argument("--whole", action="store_true", help="whole discoveries, too")
    parser.add_argument("--only", choices=PARTS, action="append", dest="parts")
    for name in SIZES:
        parser.add_argument(f"--{name}", type=int, help="see bench's Settings")
    for name in ("rows", "chat_rows"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=sizes, help="as 1,2,4")
    arguments = parser.parse_args()
    names = {field.name for field in fields(Settings)}
    given = {
        name: tuple(value) if name == "parts" else value
        for name, value in vars(arguments).items()
        if name in names and value is not None
    }
    settings = SHORT if arguments.short else Settings()
    settings = replace(settings, is_whole=arguments.whole, **given)
    model, tokenizer, name = chosen(arguments)
    print(name)
    found = measure(model, tokenizer, settings)
    failed = far_off(found) if arguments.short else {}
    if failed:
        print(f"again, because of {', '.join(failed)}")
        found = measure(model, tokenizer, settings)
        failed = {name: one for name, one in far_off(found).items() if name in failed}
    for one, ratio in failed.items():
        print(f"FAR OFF: {one} {ratio:.2f}, at least {FAR_OFF[one]} expected")
    around = {"model": name, "far_off": failed, "environment": environment()}
    print(json.dumps({**found, **around}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
