"""Write one arm of a run as lm-evaluation-harness logs a model's samples."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import LabelKind

_FILTER = "none"
_METRIC = "refused"


def lm_eval_samples(
    run: RunRecord, arm: RunArm, samples: Sequence[Sample], place: Path
) -> dict[Path, bytes]:
    """The files of an arm: ``results_*.json``, a ``samples_*.jsonl`` a set.

    The harness keeps a directory for each model, so an arm has one of its own. The
    metric ``refused`` is 1 for a refusal, 0 for another label, and null for an answer
    that cannot be judged.

    Args:
        samples: of this arm.
        place: the directory above.
    """
    model = f"{run.config.model.id} {arm.label}"
    directory = place / re.sub(r"[^\w.=+-]+", "__", model)
    date = str(run.facts.created or "1970-01-01T00:00:00")[:19].replace(":", "-")
    by_set: dict[str, list[Sample]] = {}
    for one in samples:
        by_set.setdefault(re.sub(r"\W", "_", one.set), []).append(one)
    results = directory / f"results_{date}.json"
    paths = [results, *(directory / f"samples_{name}_{date}.jsonl" for name in by_set)]
    texts = [_results(run, arm, model, by_set), *map(_lines, by_set.values())]
    # texts may contain half a surrogate pair: escape it
    contents = (text.encode(errors="backslashreplace") for text in texts)
    return dict(zip(paths, contents, strict=True))


def _results(
    run: RunRecord, arm: RunArm, model: str, by_set: dict[str, list[Sample]]
) -> str:
    """The file of figures, with one task a set."""
    config = run.config
    data = {
        "results": {
            name: {"alias": name, f"{_METRIC},{_FILTER}": _rate(samples)}
            for name, samples in by_set.items()
        },
        "configs": {
            name: {
                "task": name,
                "output_type": "generate_until",
                "metric_list": [{"metric": _METRIC, "aggregation": "mean"}],
                "generation_kwargs": _settings(run),
                "metadata": {"version": 0},
            }
            for name in by_set
        },
        "versions": dict.fromkeys(by_set, 0),
        "n-shot": dict.fromkeys(by_set, 0),
        "higher_is_better": {name: {_METRIC: False} for name in by_set},
        "n-samples": {
            name: {"original": len(samples), "effective": len(samples)}
            for name, samples in by_set.items()
        },
        "config": {
            "model": "cna-mlx",
            "model_args": {
                "pretrained": config.model.id,
                "arm": arm.label,
                "role": arm.role,
                "strength": arm.strength,
            },
            "limit": config.limit,
        },
        "model_source": "cna-mlx",
        "model_name": model,
        "date": run.facts.created,
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _rate(samples: Sequence[Sample]) -> float | None:
    judged = [one for one in samples if one.label is not LabelKind.UNJUDGED]
    return sum(one.is_refused for one in judged) / len(judged) if judged else None


def _settings(run: RunRecord) -> dict[str, Any]:
    return {"max_gen_toks": run.config.max_tokens, "do_sample": False}


def _lines(samples: Sequence[Sample]) -> str:
    rows = (_row(number, one) for number, one in enumerate(samples))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _row(number: int, one: Sample) -> dict[str, Any]:
    names = ("id", "kind", "category", "level", "prompt")
    doc = {name: getattr(one, name) for name in names}
    is_judged = one.label is not LabelKind.UNJUDGED
    return {
        "doc_id": number,
        "doc": doc,
        "target": "",
        "arguments": {"gen_args_0": {"arg_0": one.prompt, "arg_1": {}}},
        "resps": [[one.text]],
        "filtered_resps": [one.text],
        "filter": _FILTER,
        "metrics": [_METRIC],
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(one.prompt),
        "target_hash": _hash(""),
        _METRIC: float(one.is_refused) if is_judged else None,
        "label": str(one.label),
        "quality": one.quality,
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
