"""What a search leaves in the directory of its run, for the report."""

from typing import Any

import numpy as np

from cna_mlx.discovery.selection import Rank
from cna_mlx.evaluation.runs import SEARCH
from cna_mlx.search.result import SearchResult
from cna_mlx.search.statistics import Statistics

# Neurons of each layer; the scores that a picture compares.
_RANKS = 48
_SCORES: tuple[Rank, ...] = ("delta", "influence")


def keep_search(found: SearchResult, statistics: Statistics) -> None:
    """Write what was tried, and the best neurons of each layer, into the run.

    Raises:
        InputError: the file cannot be written.
    """
    if found.run is None:
        return
    data = found.to_dict()
    del data["verdict"], data["run"]  # the run itself says both
    found.run.keep(SEARCH, {**data, "layers": best_by_layer(statistics)})


def best_by_layer(statistics: Statistics) -> dict[str, list[list[Any]]]:
    """Each layer's best neurons, by score: [index, score], the best first.

    A layer that was not scored, and neurons without a score above 0, are left out.
    """
    scores = {name: statistics.scores.get(name, ()) for name in _SCORES}
    return {name: [_best(own) for own in layers] for name, layers in scores.items()}


def _best(scores: np.ndarray) -> list[list[Any]]:
    order = np.argsort(-scores, kind="stable")[:_RANKS]
    return [[int(at), float(f"{scores[at]:.4g}")] for at in order if scores[at] > 0]
