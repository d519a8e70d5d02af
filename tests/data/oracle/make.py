"""Ask transformers what each model here computes; see README.md.

PYTHONPATH=tests/support python tests/data/oracle/make.py [NAME ...]
"""

import json
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from oracle import ORACLE, PROMPTS, weights_of, write_model
from safetensors import safe_open
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

TOKENS = 12
PACKED = "quantization_config"
# Published with all experts in one array; transformers 5.24 writes them one by one.
FUSED = ("qwen3_5_moe",)
MADE_WITH = f"torch {torch.__version__}, transformers {transformers.__version__}"


def model_class(config: dict[str, Any]) -> Any:
    return getattr(transformers, config["architectures"][0])


def saved(config: dict[str, Any], directory: Path) -> tuple[dict[str, Any], Any]:
    """The config as transformers writes it, and the names and shapes of its weights."""
    plain = {key: value for key, value in config.items() if key != PACKED}
    read = transformers.AutoConfig.for_model(**plain)
    is_original = config["model_type"] not in FUSED
    model = model_class(config)(read)
    model.save_pretrained(directory, save_original_format=is_original)
    with safe_open(directory / "model.safetensors", "np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in list(file.keys())}
    written = json.loads((directory / "config.json").read_text())
    if PACKED not in config:
        return written, shapes
    return {**written, PACKED: config[PACKED]}, packed(shapes)


def packed(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """The shapes of a gpt-oss whose experts are packed in mxfp4, as it is published."""
    found = {}
    for name, shape in shapes.items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            found[name] = shape
            continue
        count, columns, rows = shape
        found[f"{name}_blocks"] = [count, rows, columns // 32, 16]
        found[f"{name}_scales"] = [count, rows, columns // 32]
    return found


def unpacked(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same with transformers' own numbers for what is packed."""
    found = {}
    for name, value in weights.items():
        if name.endswith("_blocks"):
            scales = torch.tensor(weights[name.replace("_blocks", "_scales")])
            plain = convert_moe_packed_tensors(torch.tensor(value), scales)
            found[name.removesuffix("_blocks")] = plain.float().contiguous().numpy()
        elif not name.endswith("_scales"):
            found[name] = value
    return found


def loaded(directory: Path, config: dict[str, Any], shapes: Any) -> Any:
    plain = {key: value for key, value in config.items() if key != PACKED}
    write_model(directory, plain, unpacked(weights_of(shapes)))
    model, report = model_class(config).from_pretrained(
        directory,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    assert not any(report.values()), report
    return model.eval()


def layers_of(model: Any) -> Any:
    return getattr(model.model, "language_model", model.model).layers


def mlp_of(layer: Any) -> Any:
    """A layer's MLP or mixture; Nemotron-H's may have another mixer in its place."""
    names = ("block_sparse_moe", "mixer", "mlp")
    return next(getattr(layer, name) for name in names if hasattr(layer, name))


def shared_of(mlp: Any) -> Any:
    return getattr(mlp, "shared_expert", getattr(mlp, "shared_experts", None))


@contextmanager
def hooked(model: Any, found: dict[Any, Any]) -> Any:
    """Keep the inputs of down-projections, of experts, and the shared expert's gate."""
    handles = []

    def keep(module: Any, layer: int, what: str, is_input: bool) -> None:
        def hook(module: Any, given: Any, output: Any = None) -> None:
            found[layer, what] = given if is_input else output

        add = (
            module.register_forward_pre_hook
            if is_input
            else module.register_forward_hook
        )
        handles.append(add(hook))

    for number, layer in enumerate(layers_of(model)):
        mlp = mlp_of(layer)
        if not hasattr(mlp, "experts"):
            if hasattr(mlp, "down_proj"):
                keep(mlp.down_proj, number, "dense", True)
            continue
        keep(mlp.experts, number, "experts", True)
        if shared := shared_of(mlp):
            keep(shared.down_proj, number, "shared", True)
        if hasattr(mlp, "shared_expert_gate"):
            keep(mlp.shared_expert_gate, number, "gate", False)
    yield
    for handle in handles:
        handle.remove()


def own_activation(experts: Any, number: int, x: Any) -> Any:
    """An expert's input of its down-projection, [width]."""
    if hasattr(experts, "gate_up_proj_bias"):  # gpt-oss
        weight, bias = experts.gate_up_proj[number], experts.gate_up_proj_bias[number]
        return experts._apply_gate(x @ weight + bias)
    if not hasattr(experts, "gate_up_proj"):
        return experts.act_fn(torch.nn.functional.linear(x, experts.up_proj[number]))
    gate, up = torch.nn.functional.linear(x, experts.gate_up_proj[number]).chunk(2)
    return experts.act_fn(gate) * up


def activation(model: Any, layer: int, found: dict[Any, Any]) -> Any:
    """What each neuron of a layer adds at the last token, [d_ff]."""
    if (layer, "dense") in found:
        return found[layer, "dense"][0].reshape(-1, found[layer, "dense"][0].shape[-1])[
            -1
        ]
    if (layer, "experts") not in found:
        return torch.zeros(0)
    experts = mlp_of(layers_of(model)[layer]).experts
    x, indices, shares = found[layer, "experts"]
    parts = [
        torch.zeros(len(own_activation(experts, 0, x[-1])))
        for _ in range(experts.num_experts)
    ]
    for expert, share in zip(indices[-1].tolist(), shares[-1], strict=True):
        parts[expert] = share * own_activation(experts, expert, x[-1])
    if (layer, "shared") in found:
        (own,) = found[layer, "shared"]
        gate = found.get((layer, "gate"))
        share = 1 if gate is None else torch.sigmoid(gate.reshape(-1)[-1])
        parts.append(share * own.reshape(-1, own.shape[-1])[-1])
    return torch.cat(parts)


def asked(model: Any, prompt: list[int]) -> tuple[list[np.ndarray], np.ndarray]:
    """The activations of each layer and the logits at a prompt's last token."""
    found: dict[Any, Any] = {}
    with hooked(model, found):
        logits = model(torch.tensor([prompt]), use_cache=False).logits[0, -1]
    layers = range(len(layers_of(model)))
    return [activation(model, n, found).numpy() for n in layers], logits.numpy()


def greedy(model: Any, prompt: list[int]) -> tuple[list[int], float]:
    """The most probable tokens without a cache, and the closest call among them."""
    ids, gap = list(prompt), np.inf
    for _ in range(TOKENS):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        first, second = logits.topk(2).values.tolist()
        gap = min(gap, (first - second) / logits.abs().max().item())
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :], gap


def chosen(model: Any, activations: list[np.ndarray]) -> list[list[int]]:
    """The most active neuron of each layer, and of its shared expert."""
    found = []
    for layer, values in enumerate(activations):
        mlp = mlp_of(layers_of(model)[layer])
        rest = shared_of(mlp).down_proj.in_features if shared_of(mlp) else 0
        ends = [(0, len(values) - rest), (len(values) - rest, len(values))]
        found += [
            [layer, start + int(np.abs(values[start:end]).argmax())]
            for start, end in ends
            if end > start
        ]
    return found


def ablate(model: Any, neurons: list[list[int]]) -> None:
    """Zero the neurons' columns of the down-projections."""
    for layer, index in neurons:
        mlp = mlp_of(layers_of(model)[layer])
        if not hasattr(mlp, "experts"):
            mlp.down_proj.weight[:, index] = 0
            continue
        down = mlp.experts.down_proj
        axis = 1 if hasattr(mlp.experts, "gate_up_proj_bias") else 2
        width = down.shape[axis]
        if index >= len(down) * width:
            shared_of(mlp).down_proj.weight[:, index - len(down) * width] = 0
        else:
            down[index // width].select(axis - 1, index % width).zero_()


@torch.no_grad()
def make(name: str) -> None:
    path = ORACLE / name
    config = json.loads((path / "config.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        again, shapes = saved(config, Path(folder, "saved"))
        model = loaded(Path(folder, "own"), config, shapes)
        other = loaded(Path(folder, "again"), again, shapes)
    for prompt in PROMPTS:
        assert np.array_equal(asked(model, prompt)[1], asked(other, prompt)[1])
    answers = [asked(model, prompt) for prompt in PROMPTS]
    neurons = chosen(model, answers[-1][0])
    texts = [greedy(model, prompt) for prompt in PROMPTS]
    ablate(model, neurons)
    after = [greedy(model, prompt) for prompt in PROMPTS]
    np.savez_compressed(
        path / "arrays.npz",
        shapes=json.dumps(shapes),
        activations=[np.concatenate(activations) for activations, _ in answers],
        logits=[logits for _, logits in answers],
        ablated=[asked(model, prompt)[1] for prompt in PROMPTS],
    )
    expected = {
        "made_with": MADE_WITH,
        "closest_call": min(gap for _, gap in (*texts, *after)),
        "ablated": neurons,
        "greedy": [text for text, _ in texts],
        "greedy_ablated": [text for text, _ in after],
        "config": again,
    }
    (path / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    names = sys.argv[1:] or sorted(
        one.parent.name for one in ORACLE.glob("*/config.json")
    )
    for one in names:
        make(one)
