"""`prompts`, `models` and `circuit show`: what is in the package, and in a file."""

from cna_mlx.circuit import Circuit
from cna_mlx.commands.output import emit_json, show
from cna_mlx.models import catalogue
from cna_mlx.models.memory.forecast import kept_bytes
from cna_mlx.models.memory.machine import machine
from cna_mlx.models.memory.plan import QUANTIZATIONS, Plan, plan_of
from cna_mlx.prompts import contrast_names, load_contrast
from cna_mlx.ui.console import screen
from cna_mlx.ui.lists import prompt_sets_view, prompts_view
from cna_mlx.ui.models import catalogue_view
from cna_mlx.ui.tables import circuit_view


def run_prompts(as_json: bool) -> None:
    """List the built-in contrasts."""
    sets = [load_contrast(name) for name in contrast_names()]
    if not as_json:
        show(prompt_sets_view(screen(), sets))
        return
    entries = [
        {
            "name": one.name,
            "description": one.description,
            "positive": {"label": one.positive_label, "prompts": one.sizes[0]},
            "negative": {"label": one.negative_label, "prompts": one.sizes[1]},
            "sha256": one.sha256,
        }
        for one in sets
    ]
    emit_json({"prompt_sets": entries})


def run_prompts_show(name: str, as_json: bool) -> None:
    """Print one contrast."""
    one = load_contrast(name)
    if not as_json:
        show(prompts_view(screen(), one))
        return
    emit_json(
        {
            "name": one.name,
            "description": one.description,
            "positive": list(one.positive),
            "negative": list(one.negative),
            "positive_label": one.positive_label,
            "negative_label": one.negative_label,
        }
    )


def run_models(check: bool, as_json: bool) -> None:
    """List the paper's models, their memory, and what the Hub says of them."""
    entries = catalogue.entries()
    checks: dict[str, str] = {}
    if check:
        for name in sorted({n for e in entries for n in e.ids.values() if n}):
            screen().note(f"asking the Hub for {name}")
            checks[name] = catalogue.check(name)
    have = machine()
    if not as_json:
        show(catalogue_view(screen(), entries, have, checks or None))
        screen().note(catalogue.caveat())
        return
    emit_json(
        {
            "note": catalogue.caveat(),
            "memory_bytes": have.total,
            "usable_memory_bytes": have.usable,
            "models": [
                {
                    "name": entry.name,
                    **entry.shape,
                    **entry.ids,
                    "neurons": entry.neurons,
                    "weights_4bit_bytes": entry.weights_4bit,
                    "kv_bytes_per_token": entry.kv_per_token,
                    "fits": entry.weights_4bit <= have.usable,
                    "plans": {
                        name: _plan_entry(plan_of(entry, bits, have))
                        for name, bits in QUANTIZATIONS.items()
                    },
                    "hub": {n: checks[n] for n in entry.ids.values() if n in checks},
                }
                for entry in entries
            ],
        }
    )


def run_circuit_show(path: str, as_json: bool, top: int) -> None:
    """Show a circuit file."""
    circuit = Circuit.load(path)
    if not as_json:
        show(circuit_view(screen(), circuit, top))
        return
    emit_json(
        {
            "file": path,
            "model": circuit.model,
            **circuit.provenance,
            "k": circuit.k,
            "by_layer": {
                str(layer): len(members)
                for layer, members in circuit.by_layer().items()
            },
            "neurons": [list(neuron) for neuron in circuit.neurons],
        }
    )


def _plan_entry(plan: Plan) -> dict[str, object]:
    return {
        "weights_bytes": plan.weights,
        "kv_bytes_per_token": plan.shape.kv_per_token,
        "discovery_bytes": plan.discovery,
        "kept_bytes": kept_bytes(plan.shape),
        "streamed_discovery_bytes": plan.streamed,
        "fit": plan.fit,
    }
