"""What a run did otherwise than the paper's authors.

Source: arXiv 2605.12290v1, sections 3 to 5 and table 5; what the authors' scripts do is
read from github.com/NousResearch/neural-steering, ``experiments/``. These sentences
stand beside any comparison with the paper's figures.
"""

from dataclasses import dataclass

from cna_mlx.provenance import ContrastEntry

PROMPTS = 100
MAX_TOKENS = 150
_FIXED = 1600
_UNQUANTIZED = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Protocol:
    """What a run did, as far as it may differ from the paper.

    Attributes:
        neurons, total: of the circuit, and of the model.
        prompts: the evaluation set's name.
        n: how many prompts of it.
        is_jbb: whether they are JBB-Behaviors' harmful ones, as published.
        max_tokens: new tokens at most.
        quantization: how the weights are stored, e.g. ``bfloat16`` or ``4-bit g64``.
        architecture: ``model_type`` of the model.
        contrast: the circuit's; None if unknown.
        seen: how many evaluation prompts equal or nearly equal a discovery prompt; None
            if unknown.
        multiplier: of the ablated arm.
        is_greedy: or sampled.
        rank, layers: how the circuit was ranked; all layers if None.
        universal_dropped: neurons left out as universal.
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


def protocol_differences(run: Protocol) -> list[str]:
    """What a run did otherwise than the authors, to stand beside any comparison.

    Args:
        run: what it did.

    Returns:
        A sentence each. Labels and the circuit's size are always among them.
    """
    return [*_of_the_circuit(run), *_of_the_evaluation(run)]


def _of_the_circuit(run: Protocol) -> list[str]:
    found = [
        "The paper takes the top 0.1% of the neurons, and the authors' scripts a fixed "
        f"number, such as {_FIXED:,} ({_FIXED / run.total:.2%} of this model's); here "
        f"the circuit has {run.neurons:,} ({run.neurons / run.total:.2%})."
    ]
    if run.contrast is None:
        found.append("It is not known which prompts this circuit was found on.")
    else:
        sizes = f"{run.contrast.positive or 0} and {run.contrast.negative or 0}"
        found.append(
            "The paper's circuits for JBB-Behaviors come from 100 harmful and 100 "
            f"benign prompts of its own; here from {run.contrast.name} ({sizes})."
        )
    if run.rank != "delta":
        found.append(f"The paper ranks by |delta|; here the rank is {run.rank}.")
    if run.layers is not None:
        first, last = run.layers
        found.append(
            f"The paper ranks all layers together; here layers {first} to {last}."
        )
    else:
        found.append(
            "The authors' scripts leave out layers 0 and 1 without saying so; here "
            "they are ranked with the others."
        )
    if run.universal_dropped:
        found.append(
            "The authors' scripts do not apply the universal filter to this discovery; "
            f"here it left out {run.universal_dropped:,} neurons."
        )
    return found


def _of_the_evaluation(run: Protocol) -> list[str]:
    found = [
        "The authors label by 13 regular expressions over an answer's first 500 "
        "characters; here other rules read the whole answer."
    ]
    if not run.is_jbb or run.n != PROMPTS:
        found.append(
            f"The paper evaluates on the {PROMPTS} harmful prompts of JBB-Behaviors; "
            f"here on {run.n} of {run.prompts}."
        )
    if run.seen is None:
        found.append("How many of them the discovery saw is not known.")
    elif run.seen:
        found.append(
            f"The discovery saw {run.seen} of them, or prompts nearly equal (in one of "
            "the authors' experiments it saw some as well)."
        )
    if not run.quantization.startswith(_UNQUANTIZED):
        found.append(
            "The authors ran their models in bfloat16 and leave quantized ones open; "
            f"this one is stored in {run.quantization}."
        )
    if run.max_tokens != MAX_TOKENS:
        found.append(
            f"The authors' script answers in up to {MAX_TOKENS} tokens; here in up to "
            f"{run.max_tokens}."
        )
    if run.multiplier != 0:
        found.append(f"The paper ablates (m = 0); here m = {run.multiplier:g}.")
    if not run.is_greedy:
        found.append("The authors' script decodes greedily; here answers are sampled.")
    if run.architecture == "llama":
        found.append(
            "The authors' script begins Llama's prompts with a second BOS; here there "
            "is one."
        )
    return found
