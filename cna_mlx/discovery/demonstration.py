"""Compare the demo's circuit with both kinds of control."""

import json
from collections.abc import Sequence
from importlib.resources import files

from cna_mlx.discovery.cache import CachedCircuit
from cna_mlx.discovery.controls import matched_control, uniform_control
from cna_mlx.discovery.diff_run import DiffRun
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.util.progress import SILENT, Reporter

_MAX_TOKENS = 60
_SEED = 0


def demonstrate(
    prompts: Sequence[str] = (), reporter: Reporter = SILENT
) -> tuple[CachedCircuit, DiffRun]:
    """Discover the demo's circuit, and prepare prompts that show what it does.

    ``prompts`` are answered before the built-in ones. The arms are the baseline, the
    ablated circuit, the uniform and the matched control.
    """
    options = DiscoveryOptions()
    session = Session("demo", reporter=reporter)
    found = session.find(options, options.prompts("demo"), refresh=True)
    circuit, discovery = found.circuit, found.discovery
    assert discovery is not None
    uniform = uniform_control(circuit, discovery.sizes, _SEED)
    matched = matched_control(circuit, discovery.magnitudes, _SEED)
    arms = (
        BASELINE,
        Arm.of(circuit, 0.0, "ablated"),
        Arm.of(uniform, 0.0, "uniform control"),
        Arm.of(matched, 0.0, "matched control"),
    )
    return found, DiffRun(session, arms, (*prompts, *showcase()), _MAX_TOKENS)


def showcase() -> list[str]:
    """A few questions that are not in the demo's training data."""
    text = files("cna_mlx").joinpath("demo/questions.json").read_text("utf-8")
    return list(json.loads(text)["showcase"])
