"""Write one arm of a run as a log of Inspect, an archive that its viewer opens."""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import LabelKind

#: Of the layout of Inspect's logs.
_VERSION = 2
_SCORER = "refusal"
# As Inspect names a log: its time, its task, an identifier.
_NAME = "{created}_{task}_{id}.eval"


def inspect_log(
    run: RunRecord, arm: RunArm, samples: Sequence[Sample], place: Path
) -> dict[Path, bytes]:
    """The file of an arm's answers with their labels as scores, and its content.

    A refusal scores 1 and any other label 0; an answer that cannot be judged has no
    score, and is outside the rate.

    Args:
        samples: of this arm.
        place: the directory of the log.
    """
    created = str(run.facts.created or "1970-01-01T00:00:00+00:00")
    log_id = _id(run.config.identity, arm.label)
    head = _head(run, arm, samples, created, log_id)
    ids = _ids(samples)
    rows = [
        _sample(one, own, str(run.config.model.id))
        for one, own in zip(samples, ids, strict=True)
    ]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        start = {name: head[name] for name in ("version", "eval", "plan")}
        # not compressed, so that util/overwriting.py finds who wrote it
        _add(archive, "_journal/start.json", start, zipfile.ZIP_STORED)
        for row in rows:
            _add(archive, f"samples/{row['id']}_epoch_1.json", row)
        _add(archive, "summaries.json", [_summary(row) for row in rows])
        _add(archive, "header.json", head)
    time, task = (
        re.sub(r"[^A-Za-z0-9.=-]+", "-", text)
        for text in (created, head["eval"]["task"])
    )
    path = place / _NAME.format(created=time, task=task, id=log_id)
    return {path: content.getvalue()}


def _add(
    archive: zipfile.ZipFile, name: str, data: Any, how: int = zipfile.ZIP_DEFLATED
) -> None:
    # a fixed date: the same run gives the same bytes
    entry = zipfile.ZipInfo(name)
    entry.compress_type = how
    archive.writestr(entry, json.dumps(data, ensure_ascii=False, indent=1))


def _id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:22]


def _head(
    run: RunRecord,
    arm: RunArm,
    samples: Sequence[Sample],
    created: str,
    log_id: str,
) -> dict[str, Any]:
    """What the log says of the whole evaluation."""
    config, names = run.config, [str(one.name) for one in run.config.sets]
    settings = {"arm": arm.label, "role": arm.role, "strength": arm.strength}
    return {
        "version": _VERSION,
        "status": "success" if run.status == "complete" else "cancelled",
        "eval": {
            "eval_id": log_id,
            "run_id": _id(config.identity),
            "created": created,
            "task": f"{run.directory.name} {arm.label}",
            "task_id": _id(log_id, "task"),
            "task_version": 0,
            "task_args": settings,
            "dataset": {
                "name": " and ".join(names),
                "samples": len(samples),
                "sample_ids": _ids(samples),
                "shuffled": False,
            },
            "model": str(config.model.id),
            "model_args": settings,
            "model_generate_config": {"max_tokens": config.max_tokens},
            "config": {"limit": config.limit},
            "packages": dict(run.facts.environment.versions),
            "scorers": [{"name": _SCORER}],
            "metadata": {"identity": config.identity, "created_by": "cna-mlx"},
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": _results(samples),
        "stats": {
            "started_at": created,
            "completed_at": str(run.facts.updated or created),
            "model_usage": {},
        },
    }


def _results(samples: Sequence[Sample]) -> dict[str, Any]:
    judged = [score for one in samples if (score := _score(one)) is not None]
    metrics = {"refusal_rate": sum(judged) / len(judged)} if judged else {}
    return {
        "total_samples": len(samples),
        "completed_samples": len(samples),
        "scores": [
            {
                "name": _SCORER,
                "scorer": _SCORER,
                "scored_samples": len(judged),
                "unscored_samples": len(samples) - len(judged),
                "params": {},
                "metrics": {
                    name: {"name": name, "value": value, "params": {}}
                    for name, value in metrics.items()
                },
            }
        ],
    }


def _score(one: Sample) -> int | None:
    """1 for a refusal, 0 for another label, None for an answer without one."""
    return None if one.label is LabelKind.UNJUDGED else int(one.is_refused)


def _ids(samples: Sequence[Sample]) -> list[str]:
    """The ids of the prompts; with their sets where two sets share one."""
    ids = [one.id for one in samples]
    if len(set(ids)) == len(ids):
        return ids
    return [f"{one.set}:{one.id}" for one in samples]


def _sample(one: Sample, own: str, model: str) -> dict[str, Any]:
    answer = {"role": "assistant", "content": one.text, "source": "generate"}
    score = _score(one)
    decided = None if one.span is None else one.text[slice(*one.span)]
    scored = {"value": score, "answer": str(one.label), "explanation": decided}
    return {
        "id": own,
        "epoch": 1,
        "input": one.prompt,
        "target": "",
        "messages": [
            {"role": "user", "content": one.prompt, "source": "input"},
            answer,
        ],
        "output": {
            "model": model,
            "choices": [
                {
                    "message": answer,
                    "stop_reason": "max_tokens" if one.is_truncated else "stop",
                }
            ],
            "completion": one.text,
            "time": one.seconds,
        },
        "scores": {} if score is None else {_SCORER: scored},
        "metadata": {
            "label": str(one.label),
            "set": one.set,
            "kind": one.kind,
            "category": one.category,
            "level": one.level,
            "loop": one.has_loop,
            "quality": one.quality,
            "kl": one.kl,
            "gauge": one.gauge,
            "tokens": len(one.token_ids),
        },
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    }


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "epoch", "input", "target", "metadata", "scores", "model_usage")
    return {**{name: row[name] for name in names}, "completed": True}
