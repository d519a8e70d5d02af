"""Rank neurons by what they decide: direct, influence and causal."""

import hashlib
import json
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.influence import effects, gradients
from cna_mlx.discovery.last_tokens import read_prompts
from cna_mlx.discovery.rankings import (
    ALL,
    Causal,
    Difference,
    Direct,
    Influence,
    Ranking,
)
from cna_mlx.discovery.refusing_openings import Opening, log_odds, refusing_openings
from cna_mlx.discovery.routed import Rows
from cna_mlx.discovery.selection import Selection, TopNeurons
from cna_mlx.discovery.weight_norms import dequantized, mean_row
from cna_mlx.errors import InputError
from cna_mlx.models.families import family_of, widths
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.util.progress import Progress

CANDIDATES = 2000
# Positive prompts on which candidates are ablated.
PROMPTS = 8
# One candidate in so many is also set to its mean, to compare with influence.
_SAMPLE = 8


@dataclass(frozen=True)
class Deciding:
    """A contrast, ready to be ranked by what its neurons decide.

    Attributes:
        ids: of the positive prompts, then of the negative ones.
        openings: the phrases that begin the model's refusals.
    """

    model: Any
    contrast: PromptSet
    selection: Selection
    ids: Sequence[Sequence[int]]
    openings: tuple[Opening, ...]
    progress: Progress

    @classmethod
    def of(
        cls,
        model: Any,
        tokenizer: Any,
        contrast: PromptSet,
        selection: Selection,
        rendering: Rendering,
        ids: Sequence[Sequence[int]],
        progress: Progress,
    ) -> "Deciding":
        """Find how the model's refusals begin.

        Raises:
            InputError: they begin like its other answers, or the weights are on disk.
        """
        next(read_prompts(model, ids[:1], selection.positions))  # or it is refused
        openings = refusing_openings(
            model, tokenizer, contrast, rendering, progress=progress
        )
        if not openings:
            raise InputError(
                f"--rank {selection.rank} ranks by the first words of refusals, and "
                f"this model's answers to the {contrast.positive_label} prompts of "
                f"{contrast.name} begin like the others: choose --rank residual"
            )
        return cls(model, contrast, selection, ids, openings, progress)

    @cached_property
    def layers(self) -> range:
        """The ranked layers."""
        first, last = self.selection.band(len(widths(self.model)))
        return range(first, last + 1)

    def direct(self) -> Direct:
        """The ranking along the unembedding of the refusals' first tokens."""
        model, family = self.model, family_of(self.model)
        head, squares = family.unembedding(model), []
        some = [self.ids[row] for row in spread_out(len(self.contrast.positive))]
        for part in read_prompts(model, some, self.selection.positions):
            last = part.hidden()[0][:, -1].astype(mx.float32)
            squares += np.array(last.square().mean(axis=-1)).tolist()
        firsts = sorted({opening[0] for opening in self.openings})
        own = dequantized(head, mx.array(firsts)).astype(mx.float32).mean(axis=0)
        scale = family.norm_weight(model).astype(mx.float32) / np.sqrt(squares).mean()
        return Direct(model, scale * (own - mean_row(head)))

    def influence(self) -> Influence:
        """The ranking by gradients: one backward pass for each prompt."""
        found = gradients(
            self.model,
            self.ids,
            self.openings,
            self.layers,
            positions=self.selection.positions,
            progress=self.progress,
        )
        middle = len(self.contrast.positive)
        halves = {n: (part[:middle], part[middle:]) for n, part in found.items()}
        return Influence(halves)

    def causal(self, k: int, kept: MutableMapping[str, Any]) -> tuple[Causal, float]:
        """The ranking by ablating single neurons, and its agreement with influence.

        Args:
            k: the circuit's size.
            kept: the effects of each finished prompt, to resume by.

        Returns:
            The ranking; Spearman's correlation of influence with the effect of setting
            neurons to their mean over the negative prompts, over the candidates.
        """
        neurons, influence, means = self._candidates(max(CANDIDATES, 2 * k))
        prompts = spread_out(len(self.contrast.positive))
        text = json.dumps({layer: part.tolist() for layer, part in neurons.items()})
        chosen = hashlib.sha256(text.encode()).hexdigest()[:16]
        some = {layer: part[::_SAMPLE] for layer, part in neurons.items()}
        drops = []
        for done, row in enumerate(prompts):
            if (key := f"{chosen}-{row}") not in kept:
                kept[key] = [
                    self._effects(row, neurons, None).tolist(),
                    self._effects(row, some, means).tolist(),
                ]
            drops.append(kept[key])
            self.progress("Ablating neurons one by one", done + 1, len(prompts))
        ablated, pinned = (
            np.array(one, np.float32) for one in zip(*drops, strict=True)
        )
        ends = np.cumsum([len(part) for part in neurons.values()])[:-1]
        parts = dict(zip(neurons, np.split(ablated, ends, axis=1), strict=True))
        own = np.concatenate([influence[layer][part] for layer, part in some.items()])
        has = np.isfinite(own)
        agreement = _spearman(own[has], pinned.mean(axis=0)[has])
        return Causal(prompts, neurons, parts), agreement

    def _effects(
        self,
        row: int,
        neurons: dict[int, np.ndarray],
        targets: dict[int, np.ndarray] | None,
    ) -> np.ndarray:
        """How much each neuron's change lowers a prompt's log-odds, layer by layer."""
        ids = [self.ids[row]]
        (prompt,) = read_prompts(self.model, ids, self.selection.positions)
        found = effects(prompt, neurons, targets, self._odds)
        return np.concatenate([found[layer] for layer in neurons])

    @property
    def _odds(self) -> Callable[[Any], mx.array]:
        return lambda following: log_odds(following, self.openings)

    def _candidates(self, count: int) -> tuple[dict[int, np.ndarray], ...]:
        """The best neurons of the cheap rankings together.

        Of each ranked layer their indices; the influence of all neurons, [d_ff]; and
        their means over the negative prompts, [d_ff].
        """
        influence, model = self.influence(), self.model
        cheap: list[Ranking] = [
            influence,
            self.direct(),
            *(Difference(model, rank) for rank in ("delta", "normalized", "weighted")),
        ]
        top = TopNeurons(count)
        means, scores = {}, {}
        for layer, sides in self._sides():
            found = np.array(
                mx.stack([one.at(layer)(*sides, ALL, ALL) for one in cheap])
            )
            top.take(layer, found)
            scores[layer], means[layer] = found[0], np.array(sides[1].mean(axis=0))
        ranked = zip_longest(*map(top.best, range(len(cheap))))
        union = dict.fromkeys(one for one in chain.from_iterable(ranked) if one)
        chosen = sorted(list(union)[:count])
        neurons = {
            layer: np.array([index for own, index in chosen if own == layer])
            for layer in sorted({own for own, _ in chosen})
        }
        return neurons, scores, means

    def _sides(self) -> Iterator[tuple[int, tuple[Rows, Rows]]]:
        """Each ranked layer's activations of both sides, [n, d_ff] each."""
        middle, positions = len(self.contrast.positive), self.selection.positions
        for layer, a in last_activations(
            self.model, self.ids, positions=positions, routed=True
        ):
            if layer in self.layers:
                mean = a if a.ndim == 2 else a.mean(axis=1)
                yield layer, (mean[:middle], mean[middle:])
            if layer == self.layers[-1]:
                return


def spread_out(count: int) -> list[int]:
    """Up to 8 of ``count`` positions, in pairs: no half or fold has all of them."""
    pairs = PROMPTS // 2
    if count <= PROMPTS:
        return list(range(count))
    return [pair * count // pairs + row for pair in range(pairs) for row in (0, 1)]


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    x, y = (np.argsort(np.argsort(values)).astype(float) for values in (one, other))
    return float(np.corrcoef(x, y)[0, 1])
