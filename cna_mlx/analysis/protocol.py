"""What a run does differently from the paper's authors.

Source: arXiv 2605.12290v1, sections 3 to 5 and table 5; what the authors' scripts do is
read from github.com/NousResearch/neural-steering, ``experiments/``. These sentences
accompany any comparison with the paper's figures.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cna_mlx.analysis.metrics import Group
from cna_mlx.evaluation.run_config import CircuitEntry, RunConfig
from cna_mlx.provenance import ContrastEntry

PROMPTS = 100
MAX_TOKENS = 150
_FIXED = 1600
_UNQUANTIZED = ("float32", "bfloat16", "float16")


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
        )


def protocol_differences(run: RunProtocol) -> list[str]:
    """Return a sentence for each difference from the authors' protocol.

    Labels and the circuit's size are always among them.
    """
    return [*_of_the_circuit(run), *_of_the_evaluation(run)]


def _of_the_circuit(run: RunProtocol) -> Iterator[str]:
    yield (
        "The paper takes the top 0.1% of the neurons, and the authors' scripts a fixed "
        f"number, such as {_FIXED:,} ({_FIXED / run.total:.2%} of this model's); here "
        f"the circuit has {run.neurons:,} ({run.neurons / run.total:.2%})."
    )
    if run.contrast is None:
        yield "It is not known which prompts this circuit was found on."
    else:
        sizes = f"{run.contrast.positive or 0} and {run.contrast.negative or 0}"
        yield (
            "The paper's circuits for JBB-Behaviors come from 100 harmful and 100 "
            f"benign prompts of its own; here from {run.contrast.name} ({sizes})."
        )
    if run.rank != "delta":
        yield f"The paper ranks by |delta|; here the rank is {run.rank}."
    if run.layers is None:
        yield (
            "The authors' scripts leave out layers 0 and 1 without saying so; here "
            "they are ranked with the others."
        )
    else:
        band = " to ".join(map(str, run.layers))
        yield f"The paper ranks all layers together; here layers {band}."
    if run.universal_dropped:
        yield (
            "The authors' scripts do not apply the universal filter to this discovery; "
            f"here it left out {run.universal_dropped:,} neurons."
        )


def _of_the_evaluation(run: RunProtocol) -> Iterator[str]:
    yield (
        "The authors label by 13 regular expressions over an answer's first 500 "
        "characters; here other rules read the whole answer."
    )
    if not run.is_jbb or run.n != PROMPTS:
        yield (
            f"The paper evaluates on the {PROMPTS} harmful prompts of JBB-Behaviors; "
            f"here on {run.n} of {run.prompts}."
        )
    if run.seen is None:
        yield "How many of them the discovery saw is not known."
    elif run.seen:
        yield (
            f"The discovery saw {run.seen} of them, or nearly equal prompts (in one of "
            "the authors' experiments it saw some as well)."
        )
    if not run.quantization.startswith(_UNQUANTIZED):
        yield (
            "The authors ran their models in bfloat16 and leave quantized ones open; "
            f"this one is stored in {run.quantization}."
        )
    if run.max_tokens != MAX_TOKENS:
        yield (
            f"The authors' script answers in up to {MAX_TOKENS} tokens; here in up to "
            f"{run.max_tokens}."
        )
    if run.multiplier != 0:
        yield f"The paper ablates (m = 0); here m = {run.multiplier:g}."
    if not run.is_greedy:
        yield "The authors' script decodes greedily; here answers are sampled."
    if run.architecture == "llama":
        yield (
            "The authors' script begins Llama's prompts with a second BOS; here there "
            "is one."
        )
