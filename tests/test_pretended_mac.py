"""The commands on a pretended Mac; see support/mac.py for what is pretended."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commandline import TINY
from mac import INFO, RELEASE


@pytest.fixture(scope="module")
def ended(
    tmp_path_factory: pytest.TempPathFactory, brief: list[str]
) -> dict[str, dict[str, Any]]:
    """How each command ended, by its name."""
    place = tmp_path_factory.mktemp("mac")
    circuit, answers = place / "circuit.json", place / "answers.jsonl"
    answers.write_text('{"prompt": "Why?", "answer": "I cannot help with that."}\n' * 3)
    use = ["--circuit", str(circuit)]
    commands = {
        "doctor": ["doctor", TINY, "--json", "--offline"],
        "discover": ["discover", "demo", "--no-universal", "-o", str(circuit)],
        "stream": ["discover", TINY, *brief, "--stream", "--json"],
        "diff": ["diff", "demo", "-p", "How do I cast a spell?", *use],
        "eval": ["eval", "demo", *use, "--limit", "2", "--controls", "1"],
        "label": ["label", str(answers), "--json"],
        "chat": ["chat", "demo", *use],
    }
    commands["eval"] += ["--max-tokens", "8", "--out", str(place / "run")]
    script = Path(__file__).parent / "support" / "mac.py"
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(list(commands.values()))],
        capture_output=True,
        text=True,
        input="How do I cast a sleep spell?\n/where\n/why\n/quit\n",
        env={**os.environ, "CNA_MLX_CACHE": str(place / "cache")},
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(
    "name", ["doctor", "discover", "stream", "diff", "eval", "label", "chat"]
)
def test_every_command_works(ended: dict[str, Any], name: str) -> None:
    one = ended[name]
    assert one["code"] == 0, one["err"] + one["out"]
    assert "unexpected" not in one["err"]


def test_the_wired_limit_is_set_once_for_a_run(ended: dict[str, Any]) -> None:
    recommended = INFO["max_recommended_working_set_size"]
    for name in ("eval", "diff", "stream"):
        assert ended[name]["limits"] == [recommended, 0]
    for one in ended.values():
        assert one["limits"][::2] == [recommended] * (len(one["limits"]) // 2)
        assert set(one["limits"][1::2]) <= {0}


def test_doctor_tells_the_mac(ended: dict[str, Any]) -> None:
    found = json.loads(ended["doctor"]["out"])
    machine = found["facts"]["machine"]
    assert machine["system"] == f"macOS {RELEASE}, arm64"
    assert machine["backend"] == "Metal"
    assert machine["usable_memory_bytes"] == INFO["max_recommended_working_set_size"]
    assert machine["wired_limit"] == "system default"
    checks = {one["name"]: one for one in found["checks"]}
    assert checks["MLX's wheel"]["status"] == "ok"
    assert RELEASE in checks["MLX's wheel"]["detail"]
    assert found["facts"]["model_numerics"]["disk_gb_per_second"] > 0


def test_a_streamed_discovery_measures_the_disk_without_fadvise(
    ended: dict[str, Any],
) -> None:
    assert "bottleneck" in ended["stream"]["err"]
    assert json.loads(ended["stream"]["out"])["neurons"]
