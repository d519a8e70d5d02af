"""What a run does differently from the paper's authors.

Source: arXiv 2605.12290v1, sections 3 to 5 and table 5; what the authors' scripts do is
read from github.com/NousResearch/neural-steering, ``experiments/``. These sentences
accompany any comparison with the paper's figures.
"""

from dataclasses import dataclass

from cna_mlx.analysis.metrics import Group
from cna_mlx.evaluation.run_config import CircuitEntry, RunConfig
from cna_mlx.provenance import ContrastEntry
from cna_mlx.strength import Pin
from cna_mlx.util.files import packaged_toml

_PROMPTS = 100
_MAX_TOKENS = 150
_FIXED = 1600
_UNQUANTIZED = ("float32", "bfloat16", "float16")
_TEXTS = packaged_toml("cna_mlx.analysis", "protocol.toml")


@dataclass(frozen=True)
class RunProtocol:
    """What a run did, as far as it may differ from the paper.

    Attributes:
        neurons, total: of the circuit, and of the model.
        prompts, n: the evaluation set, and how many prompts of it.
        is_jbb: whether they are JBB-Behaviors' harmful ones, as published.
        contrast: the circuit's; None if unknown.
        seen: how many evaluation prompts equal or nearly equal a discovery prompt; None
            if unknown.
        multiplier: of the ablated arm.
        rank, layers: how the circuit was ranked; all layers if None.
        pin: of the main arm, if it is pinned.
    """

    neurons: int
    total: int
    prompts: str
    n: int
    is_jbb: bool
    max_tokens: int
    quantization: str
    architecture: str
    contrast: ContrastEntry | None
    seen: int | None
    multiplier: float = 0.0
    is_greedy: bool = True
    rank: str = "delta"
    layers: tuple[int, ...] | None = None
    universal_dropped: int = 0
    pin: Pin | None = None

    @classmethod
    def of(cls, config: RunConfig, group: Group) -> "RunProtocol":
        """The protocol of a run for one group of its prompts."""
        model, circuit = config.model, config.main_circuit or CircuitEntry()
        neurons, contrast = circuit.neurons or 0, circuit.contrast
        published = [one.name for one in config.sets if one.is_published]
        main = group.main.arm if group.main else None
        is_scaled = main is not None and main.role in ("ablated", "scaled", "other")
        return cls(
            neurons,
            model.total or 1,
            group.set,
            group.n,
            group.set == "jbb" and group.set in published,
            config.max_tokens or 0,
            str(model.quantization),
            str(model.architecture),
            contrast if contrast and contrast.name else None,
            group.seen,
            main.strength if main is not None and is_scaled else 0.0,
            config.sampling == "greedy",
            circuit.rank or "delta",
            circuit.layers,
            max(0, (circuit.k or neurons) - neurons),
            main.intervention if main is not None else None,
        )


def protocol_differences(run: RunProtocol) -> list[str]:
    """Return a sentence for each difference from the authors' protocol.

    Labels and the circuit's size are always among them.
    """
    contrast = run.contrast or ContrastEntry()
    values = {
        **vars(run),
        "fixed": _FIXED,
        "fixed_share": _FIXED / run.total,
        "share": run.neurons / run.total,
        "name": contrast.name,
        "positive": contrast.positive or 0,
        "negative": contrast.negative or 0,
        "band": " to ".join(map(str, run.layers or ())),
    }
    return [_TEXTS[key].format(**values) for key, holds in _checks(run) if holds]


def _checks(run: RunProtocol) -> tuple[tuple[str, bool], ...]:
    """Whether each sentence holds, in their order."""
    return (
        ("size", True),
        ("no_contrast", run.contrast is None),
        ("contrast", run.contrast is not None),
        ("rank", run.rank != "delta"),
        ("all_layers", run.layers is None),
        ("layers", run.layers is not None),
        ("universal", run.universal_dropped > 0),
        ("labels", True),
        ("prompts", not run.is_jbb or run.n != _PROMPTS),
        ("seen_unknown", run.seen is None),
        ("seen", bool(run.seen)),
        ("quantized", not run.quantization.startswith(_UNQUANTIZED)),
        ("max_tokens", run.max_tokens != _MAX_TOKENS),
        ("multiplier", run.multiplier != 0),
        ("pinned", run.pin is not None),
        ("sampled", not run.is_greedy),
        ("llama", run.architecture == "llama"),
    )
