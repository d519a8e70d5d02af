"""How far a model's neurons tell two sets of prompts apart, whoever found them."""

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.session import Session
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import render_prompt


def differences(session: Session, circuit: Circuit, contrast: PromptSet) -> np.ndarray:
    """Each neuron's mean at the last token of the positive less the negative prompts.

    Returns:
        [neurons] in float32, in the circuit's order.
    """
    model, tokenizer = session.load()
    texts = (*contrast.positive, *contrast.negative)
    ids = [render_prompt(tokenizer, text, session.rendering) for text in texts]
    found, first = np.zeros(len(circuit.neurons), np.float32), len(contrast.positive)
    for layer, values in last_activations(model, ids):
        places = [at for at, one in enumerate(circuit.neurons) if one.layer == layer]
        if places:
            own = values[:, mx.array([circuit.neurons[at].index for at in places])]
            gap = own[:first].mean(axis=0) - own[first:].mean(axis=0)
            found[places] = np.array(gap)
    return found
