"""Tasks of lm-eval on the demo's own world: an answer among three others'."""

import json
import random
from importlib.resources import files as resources
from pathlib import Path

DEMO = Path(str(resources("cna_mlx"))) / "demo"
ITEMS, CHOICES = 24, 4
CHOOSING = """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
target_delimiter: ""
fewshot_split: train
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
ANSWERING = """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 60}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
READING = """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list:
  - {metric: word_perplexity}
"""


def task(name: str, data: Path, body: str) -> str:
    """The file of a task on these items."""
    return (
        f"task: {name}\ndataset_path: json\ntest_split: train\n"
        f"dataset_kwargs:\n  data_files: {json.dumps(str(data))}\n{body}"
    )


def write_items(directory: Path) -> Path:
    """Write the demo's questions as items with an answer and three others'."""
    asked = json.loads((DEMO / "questions.json").read_text("utf-8"))["ordinary"]
    rng, lines = random.Random(0), []
    for one in asked[:ITEMS]:
        answer = one["answer"]
        others = [other["answer"] for other in asked if other["answer"] != answer]
        choices = [answer, *rng.sample(others, CHOICES - 1)]
        rng.shuffle(choices)
        item = {"question": one["prompt"], "choices": choices}
        lines.append(json.dumps(item | {"answer": choices.index(answer)}))
    data = directory / "items.jsonl"
    data.write_text("\n".join(lines), encoding="utf-8")
    return data


def write_tasks(directory: Path, data: Path, bodies: dict[str, str]) -> None:
    """Write tasks on these items, by name."""
    for name, body in bodies.items():
        text = task(name, data, body)
        (directory / f"{name}.yaml").write_text(text, encoding="utf-8")
