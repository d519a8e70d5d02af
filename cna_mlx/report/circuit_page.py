"""A page about a circuit file: where its neurons are."""

from dataclasses import replace

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CircuitError
from cna_mlx.report.content import Page
from cna_mlx.report.facts import written
from cna_mlx.report.html import to_html
from cna_mlx.report.neuron_sections import circuit_section
from cna_mlx.util.files import File, typed_path, write_atomically


def write_circuit_page(circuit: Circuit, path: File) -> None:
    """Write the page as one HTML file.

    Raises:
        CircuitError: the circuit has no neurons.
        InputError: the file cannot be written.
    """
    if not circuit.neurons:
        raise CircuitError("the circuit has no neurons to draw")
    section, contrast = circuit_section(circuit), circuit.provenance.contrast
    origin = (circuit.model.id, contrast.name if contrast else None)
    page = Page(
        "circuit",
        circuit.file or "A circuit",
        ", ".join(filter(None, origin)),
        section.texts[0],
        (),
        [replace(section, texts=())],
        written(),
    )
    write_atomically(typed_path(path, "--out"), to_html(page))
