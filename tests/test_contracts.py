"""Contracts with dependencies: what is used of them beyond their documented API.

Run on the newest versions with the suite, on the oldest allowed by ``.ci/run``.
"""

import inspect
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models import switch_layers
from paths import PARITY
from tiny_models import FAMILIES, HIDDEN, LAYERS, make_model

from cna_mlx.models import mlx_lm_internals as mlx_lm
from cna_mlx.models.families import family_of, supported
from cna_mlx.models.forward import Pass, logits
from cna_mlx.models.transformers_internals import (
    dated_template,
    silence_length_warning,
)

MODEL = PARITY / "qwen2_bias"


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


# ------------------------------------------------------------------------------ MLX


def test_loading_a_file_reads_only_its_header(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    mx.save_safetensors(str(path), {"a": mx.zeros((4, 8), mx.bfloat16)})
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
        file.seek(0, 2)
        file.write(b"\0")
    (array,) = dict(mx.load(str(path))).values()
    assert (array.shape, array.dtype, array.nbytes) == ((4, 8), mx.bfloat16, 64)


def test_a_device_names_its_working_set_under_this_key() -> None:
    size = mx.device_info().get("max_recommended_working_set_size")
    assert size is not None or not mx.metal.is_available()
    assert mx.set_wired_limit(0) == mx.set_wired_limit(0)


# --------------------------------------------------------------------------- mlx-lm


def test_swiglu_takes_the_gate_first() -> None:
    gate, up = mx.random.normal((2, 3, 8))
    assert mx.array_equal(mlx_lm.swiglu(gate, up), nn.silu(gate) * up)


@pytest.mark.parametrize("length", [3, 40])
def test_experts_are_called_with_each_tokens_choice_and_sort_many(length: int) -> None:
    """The up-projection first, then the activation; from 64 choices on by expert."""
    switch = switch_layers.SwitchGLU(8, 4, 5)
    x = mx.random.normal((2, length, 8))
    indices = mx.random.randint(0, 5, (2, length, 2))
    called: list[tuple[str, Any]] = []

    def up(x: mx.array, experts: mx.array, sorted_indices: bool) -> mx.array:
        called.append(("up", experts))
        return own(x, experts, sorted_indices=sorted_indices)

    def activation(up: mx.array, gate: mx.array) -> mx.array:
        called.append(("activation", up.shape))
        return nn.silu(gate) * up

    own = switch.up_proj
    dict.update(switch, up_proj=up, activation=activation)
    assert switch(x, indices).shape == (2, length, 2, 8)
    (first, experts), (second, shape) = called
    assert (first, second) == ("up", "activation")
    many = indices.size >= 64
    expected = mx.sort(indices.flatten()) if many else indices
    assert mx.array_equal(experts, expected)
    assert shape == (*expected.shape, 1, 4)


def test_the_clipped_activation_takes_the_gate_first() -> None:
    gate, up = 9 * mx.random.normal((2, 3, 8))
    low, clipped = mx.minimum(gate, 7), mx.clip(up, -7, 7)
    expected = (clipped + 1) * low * mx.sigmoid(1.702 * low)
    assert mx.allclose(mlx_lm.swiglu_oai(gate, up), expected, rtol=1e-5)


def test_a_cache_makes_masks_for_its_offset() -> None:
    cache = mlx_lm.ConcatenateKVCache()
    assert cache.make_mask(5, return_array=False, window_size=None) == "causal"
    assert cache.make_mask(1, return_array=False, window_size=None) is None
    cache.offset = 2
    mask = cache.make_mask(3, return_array=False, window_size=2)
    assert mask.shape == (3, 5)
    assert mask[2].tolist() == [False, False, False, True, True]


def test_a_cache_for_each_layer_can_be_filled_cut_and_read() -> None:
    model = make_model("llama")
    cache = mlx_lm.make_prompt_cache(model)
    assert [type(layer) for layer in cache] == [mlx_lm.KVCache] * LAYERS
    whole = model(mx.array([[1, 2, 3]]), cache=cache)
    assert [layer.offset for layer in cache] == [3] * LAYERS
    keys, values = cache[0].keys_and_values()
    assert keys.shape == values.shape == (1, 2, 3, HIDDEN // 4)
    mx.eval([layer.state for layer in cache])
    assert mlx_lm.can_trim_prompt_cache(cache)
    assert mlx_lm.trim_prompt_cache(cache, 1) == 1
    again = model(mx.array([[3]]), cache=cache)
    assert mx.allclose(again[:, -1], whole[:, -1], atol=1e-4)


def test_rows_of_caches_merge_and_part() -> None:
    model = make_model("llama")
    rows = []
    for ids in ([1, 2, 3], [4, 5]):
        rows.append(mlx_lm.make_prompt_cache(model))
        model(mx.array([ids]), cache=rows[-1])
    merged = mlx_lm.BatchKVCache.merge([row[0] for row in rows])
    assert isinstance(merged, mlx_lm.BatchKVCache)
    for number, row in enumerate(rows):
        single = merged.extract(number)
        assert single.offset == row[0].offset
        parts = zip(single.keys_and_values(), row[0].keys_and_values(), strict=True)
        assert all(mx.array_equal(part, own) for part, own in parts)


def test_a_concatenating_cache_takes_a_state() -> None:
    keys = values = mx.zeros((2, 1, 3, 4))
    cache = mlx_lm.ConcatenateKVCache()
    cache.state = (keys, values)
    more, _ = cache.update_and_fetch(keys[:, :, :1], values[:, :, :1])
    assert more.shape == (2, 1, 4, 4)
    assert (cache.keys.shape, cache.values.shape) == (more.shape, more.shape)


def test_top_p_keeps_the_nucleus() -> None:
    kept = mlx_lm.apply_top_p(mx.log(mx.array([[0.6, 0.3, 0.1]])), 0.7)
    assert mx.isinf(kept).tolist() == [[False, False, True]]


def test_a_directory_loads_lazily_and_with_changes() -> None:
    assert parameters(mlx_lm.load_model)[:4] == [
        "model_path",
        "lazy",
        "strict",
        "model_config",
    ]
    changes = {"rope_theta": 12345.0}
    model, config = mlx_lm.load_model(MODEL, lazy=True, model_config=changes)
    assert config["rope_theta"] == model.args.rope_theta == 12345.0
    assert mlx_lm.load_config(MODEL)["model_type"] == "qwen2"


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_family_has_the_parts_that_are_walked(family: str) -> None:
    model = make_model(family)
    found = mlx_lm.model_classes({"model_type": FAMILIES[family][0]})[0]
    assert type(model) is found
    layers = family_of(model).layers(model)
    for layer in layers:
        for name in ("gate_proj", "up_proj", "down_proj"):
            assert hasattr(getattr(layer.mlp, name), "weight")
    fed = Pass(model, mx.array([[1, 2]]))
    found = logits(model, fed.through(fed.hidden))
    assert mx.array_equal(found, model(mx.array([[1, 2]])))


def test_an_unknown_type_has_no_class() -> None:
    assert supported()
    with pytest.raises(ValueError, match="nothing"):
        mlx_lm.model_classes({"model_type": "nothing"})


@pytest.fixture
def tokenizer() -> Any:
    return mlx_lm.load_tokenizer(MODEL, {"local_files_only": True}, eos_token_ids=[7])


def test_a_tokenizer_streams_text(tokenizer: Any) -> None:
    assert 7 in set(tokenizer.eos_token_ids)
    assert tokenizer.has_chat_template
    ids = tokenizer.encode("owls and gulls", add_special_tokens=False)
    detokenizer = tokenizer.detokenizer
    assert detokenizer is not tokenizer.detokenizer  # a new one for each row
    parts = []
    for token in ids:
        detokenizer.add_token(token)
        parts.append(detokenizer.last_segment)
    detokenizer.finalize()
    assert "".join([*parts, detokenizer.last_segment]) == detokenizer.text
    assert detokenizer.text == tokenizer.decode(ids)


# --------------------------------------------------------------------- transformers


def test_a_long_text_is_encoded_without_a_word(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    inner = tokenizer._tokenizer
    inner.model_max_length = 4
    silence_length_warning(tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(tokenizer.encode("one two three four five six")) > 4
    assert caplog.records == []


def test_a_macro_takes_the_place_of_strftime_now(tokenizer: Any) -> None:
    template = "{{ strftime_now('%d %B %Y') }} {{ enable_thinking }}"
    tokenizer.chat_template = template
    dated = dated_template(tokenizer, date(2001, 2, 3))
    assert dated is not None
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}],
        chat_template=dated,
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    assert text == "03 February 2001 False"


# -------------------------------------------------------------------------- lm-eval

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: [" owl", " gull"]
doc_to_target: answer
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "tasks"
    place.mkdir()
    data = place / "data.jsonl"
    rows = [{"question": f"Which bird, {n}?", "answer": n % 2} for n in range(4)]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for name in ("one_bird", "other_bird"):
        text = TASK.format(name=name, data=data)
        (place / f"{name}.yaml").write_text(text, encoding="utf-8")
    unsafe = TASK.format(name="unsafe_bird", data=data) + "unsafe_code: true\n"
    (place / "unsafe_bird.yaml").write_text(unsafe, encoding="utf-8")
    group = "group: birds\ntask: [one_bird, other_bird]\n"
    (place / "birds.yaml").write_text(group, encoding="utf-8")
    yield place
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


def test_a_task_manager_finds_and_loads(tasks: Path) -> None:
    from lm_eval.tasks import TaskManager

    from cna_mlx.evaluation.lm_eval_adapter import hushed

    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    assert set(manager.all_subtasks) == {"one_bird", "other_bird", "unsafe_bird"}
    assert set(manager.all_groups) == {"birds"}
    assert set(manager.all_tasks) >= {"birds", "one_bird", "other_bird"}
    assert manager.task_index["birds"].cfg["task"] == ["one_bird", "other_bird"]
    with hushed():
        loaded = manager.load(["birds"])
    assert set(loaded["tasks"]) == {"one_bird", "other_bird"}
    assert set(loaded["groups"]) == {"birds"}
    assert loaded["group_map"]["birds"] == ["one_bird", "other_bird"]
    task = loaded["tasks"]["one_bird"]
    assert task.get_config("num_fewshot") is None
    task.set_config(key="num_fewshot", value=2)
    assert task.get_config("num_fewshot") == 2
    task.set_fewshot_seed(seed=1)
    with hushed():
        (unsafe,) = manager.load(["unsafe_bird"])["tasks"].values()
    assert unsafe.UNSAFE_CODE is True


def test_an_evaluation_has_these_parts(tasks: Path) -> None:
    from cna_mlx import load
    from cna_mlx.evaluation.lm_eval_adapter import adapter, load_tasks, run_tasks
    from cna_mlx.prompts.chat_template import Rendering

    loaded = load_tasks(["birds"], tasks, offline=True)
    lm = adapter(*load(str(MODEL)), Rendering("off"), 2)
    options = {"seed": 1, "system": None, "multiturn": False}
    found = run_tasks(lm, loaded, limit=3, **options)
    assert found["group_subtasks"] == {"birds": ["one_bird", "other_bird"]}
    assert found["n-shot"]["one_bird"] == 0
    assert found["higher_is_better"]["one_bird"] == {"acc": True}
    entry = found["results"]["one_bird"]
    assert entry["sample_len"] == 3
    assert {"acc,none", "acc_stderr,none"} <= entry.keys()
    samples = found["samples"]["one_bird"]
    assert len(samples) == 3
    assert {"doc", "arguments", "filter", "resps", "acc"} <= samples[0].keys()
    assert samples[0]["filter"] == "none"


def test_the_adapter_of_mlx_lm_loads_by_name_and_batches() -> None:
    pytest.importorskip("lm_eval")
    from cna_mlx.evaluation.lm_eval_adapter import hushed

    with hushed():
        from mlx_lm import evaluate

    assert {"batch_size", "use_chat_template"} <= set(parameters(evaluate.MLXLM))
    assert callable(evaluate.load)
    assert callable(evaluate.chat_template_fn(enable_thinking=False))
    assert parameters(evaluate.MLXLM.loglikelihood) == ["self", "requests"]
    assert parameters(evaluate.MLXLM.loglikelihood_rolling) == ["self", "requests"]
