"""`discover`: the neurons that tell two sets of prompts apart."""

from pathlib import Path

from cna_mlx.commands.old.expecting import say_expectation
from cna_mlx.commands.old.options import (
    ModelOptions,
    RenderingOptions,
    SelectionOptions,
)
from cna_mlx.commands.old.shared import Session, check_writable, one_width
from cna_mlx.discovery.cache import CachedCircuit
from cna_mlx.models.families import widths
from cna_mlx.ui.console import screen
from cna_mlx.ui.output import emit_json, show
from cna_mlx.ui.tables import discovery_view, reliability_warning


def run_discover(
    model: str,
    source: ModelOptions,
    rendering: RenderingOptions,
    options: SelectionOptions,
    output: str | None,
    as_json: bool,
) -> None:
    """Discover a circuit, write it, and tell how reliable it is."""
    check_writable(output)
    contrast = options.prompts(model)
    options.selection(model)
    session = Session.open(model, rendering, source=source)
    options.selection(model).k(widths(session.model))
    found = session.find(options, contrast=contrast, refresh=True)
    if output:
        found.circuit.save(output)
    if options.expect:
        found = session.expected(found, contrast)
        if output:
            found.circuit.save(output)
    assert found.discovery is not None
    if as_json:
        emit_json(_entry(model, found, output))
        say_expectation(found.circuit)
        if warning := reliability_warning(found.discovery):
            screen().note(warning, style="yellow")
        return
    path = Path(output) if output else found.path
    show(discovery_view(screen(), found.discovery, path))


def _entry(model: str, found: CachedCircuit, output: str | None) -> dict[str, object]:
    discovery, circuit = found.discovery, found.circuit
    assert discovery is not None
    half = discovery.split_half
    origin = circuit.provenance.to_json()
    return {
        "model": model,
        "fingerprint": circuit.model.fingerprint,
        "n_layers": len(discovery.sizes),
        "d_ff": one_width(discovery.sizes),
        "total_neurons": sum(discovery.sizes),
        "contrast": origin["contrast"],
        "rendering": origin["rendering"],
        "fraction": origin["fraction"],
        "rank": origin["rank"],
        "layers": origin["layers"],
        "k": circuit.k,
        "neurons": [list(neuron) for neuron in circuit.neurons],
        "universal_dropped": circuit.universal_dropped,
        "share_last_3_layers": discovery.share_of_last_layers(3),
        "share_last_quarter": discovery.share_of_last_layers(
            -(-len(discovery.sizes) // 4)
        ),
        "split_half": half and half.jaccard,
        "split_half_chance": half and half.chance,
        "held_out": origin["held_out"],
        "expectation": origin.get("expectation"),
        "prompts": discovery.prompts,
        "seconds": discovery.seconds,
        "peak_memory_bytes": discovery.peak_memory,
        "circuit_file": output or (str(found.path) if found.path else None),
    }
