"""Find the prompts that a circuit was discovered on."""

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.errors import InputError
from cna_mlx.prompts import PromptSet, load_contrast


def discovery_prompts(circuit: Circuit) -> PromptSet | None:
    """Return the prompts that a circuit was discovered on, if they are built in.

    They may be a part of a built-in contrast, as `--limit` leaves it. None for prompts
    of files, a changed contrast, or a circuit made by hand.
    """
    entry = circuit.provenance.contrast
    if entry is None or entry.name is None:
        return None
    try:
        whole = load_contrast(entry.name)
        limited = whole.limited(max(entry.positive or 0, entry.negative or 0) or None)
    except InputError:
        return None
    return next((one for one in (whole, limited) if circuit.is_from(one.sha256)), None)


def own_contrast(circuit: Circuit, options: DiscoveryOptions, model: str) -> PromptSet:
    """Return the contrast that is given, else the circuit's, else the model's default.

    Raises:
        InputError: the circuit was found on prompts that are not built in.
    """
    own = circuit.provenance.contrast
    if options.names_prompts or own is None:
        return options.prompts(model)
    if found := discovery_prompts(circuit):
        return found
    raise InputError(
        f"the circuit was found on prompts that are not built in ({own.name}, "
        f"{own.positive} and {own.negative}): give them with --positive FILE and "
        "--negative FILE"
    )
