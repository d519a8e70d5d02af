"""What ``import cna_mlx`` promises."""

import importlib
import inspect
import subprocess
import sys

import pytest

import cna_mlx

HEAVY = ("numpy", "mlx", "rich", "mlx_lm", "transformers", "huggingface_hub", "jinja2")


def test_all_is_explicit_and_sorted() -> None:
    assert cna_mlx.__all__ == [
        "Answer",
        "Arm",
        "Benchmark",
        "Circuit",
        "CnaError",
        "DiscoveryOptions",
        "EvalOptions",
        "Greedy",
        "Label",
        "LabelKind",
        "MeanDifference",
        "ModelOptions",
        "PatchOptions",
        "PatchResult",
        "Pin",
        "PromptSet",
        "Rendering",
        "Reporter",
        "Run",
        "Sampled",
        "SearchOptions",
        "SearchResult",
        "ShrinkResult",
        "Summary",
        "Token",
        "audit",
        "compare",
        "discover",
        "evaluate",
        "export_run",
        "generate_arms",
        "label",
        "load",
        "patch_circuit",
        "probe",
        "render",
        "render_prompt",
        "search_circuit",
        "shrink_circuit",
        "stability",
        "steered",
        "write_circuit_page",
        "write_report",
        "write_runs_page",
        "write_stability_page",
    ]


@pytest.mark.parametrize("name", cna_mlx.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(cna_mlx, name)
    assert value.__name__ == name
    assert inspect.getdoc(value)
    home = importlib.import_module(value.__module__)
    assert getattr(home, name) is value


def test_names_of_all_are_imported_by_star() -> None:
    namespace: dict[str, object] = {}
    exec("from cna_mlx import *", namespace)
    assert set(cna_mlx.__all__) <= set(namespace)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cna_mlx.nothing  # noqa: B018  # the access is what is tested


def test_dir_shows_the_public_names() -> None:
    assert dir(cna_mlx) == sorted([*cna_mlx.__all__, "__version__"])


@pytest.mark.parametrize("module", ["cna_mlx", "cna_mlx.errors", "cna_mlx.circuit"])
def test_importing_is_light(module: str) -> None:
    script = (
        f"import sys, {module}\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_arguments_that_are_promised() -> None:
    discover = inspect.signature(cna_mlx.discover).parameters
    assert list(discover)[:6] == [
        "model",
        "tokenizer",
        "positive",
        "negative",
        "fraction",
        "universal",
    ]
    assert discover["fraction"].default == 0.001
    assert discover["universal"].default is True
    steered = inspect.signature(cna_mlx.steered).parameters
    assert list(steered) == ["model", "circuit", "multiplier"]
    assert steered["multiplier"].default == 0.0
    arms = inspect.signature(cna_mlx.generate_arms).parameters
    assert arms["max_tokens"].default == 150
    assert {"sampling", "caches"} <= set(arms)
    assert next(iter(inspect.signature(cna_mlx.load).parameters)) == "name"
