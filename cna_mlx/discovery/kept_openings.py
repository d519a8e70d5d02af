"""The phrases that begin a model's refusals, if they are known already."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.cache import Store, identity_of, keep_file
from cna_mlx.discovery.discover import algorithm_of
from cna_mlx.discovery.gauge import is_calibrated
from cna_mlx.discovery.refusing_openings import Opening, refusing_openings
from cna_mlx.discovery.selection import Selection
from cna_mlx.models.context import vocabulary
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.reading import parse_json, read_text


def kept_openings(
    model: Any,
    tokenizer: Any,
    circuit: Circuit,
    contrast: PromptSet,
    rendering: Rendering,
    *,
    progress: Progress = silent,
) -> tuple[Opening, ...]:
    """Find how refusals begin: from the circuit, the cache, or the model's answers.

    Args:
        circuit: its phrases are used if it was found on the contrast, with these
            weights and this rendering.
        contrast, progress: as for :func:`refusing_openings`.

    Returns:
        as :func:`refusing_openings`.
    """
    own, is_own = circuit.provenance.openings, circuit.is_from(contrast.sha256)
    if own and is_own and is_calibrated(model, tokenizer, circuit, rendering):
        return own
    key = {
        **identity_of(model, tokenizer, rendering),
        "algorithm": algorithm_of(Selection(rank="influence")),
        "contrast": contrast.sha256,
    }
    path = Store().place("openings", key)
    with suppress(OSError, ValueError, TypeError):
        return read_openings(path, vocabulary(model))
    found = refusing_openings(model, tokenizer, contrast, rendering, progress=progress)
    keep_file(path, json.dumps(found))
    return found


def read_openings(path: Path, tokens: int) -> tuple[Opening, ...]:
    """The phrases that a file has, as token ids below ``tokens``.

    Raises:
        OSError, ValueError, TypeError: it is missing or damaged.
    """
    return checked_openings(parse_json(read_text(path), finite=True), tokens)


def checked_openings(phrases: Any, tokens: int) -> tuple[Opening, ...]:
    """The phrases that a file has.

    Args:
        tokens: how many the model has.

    Raises:
        ValueError, TypeError: they are damaged.
    """
    found = tuple(map(tuple, phrases))
    ids = [token for one in found for token in one]
    if any(type(token) is not int or not 0 <= token < tokens for token in ids):
        raise ValueError("a token that the model does not have")
    if not all(found):
        raise ValueError("an empty phrase")
    return found
