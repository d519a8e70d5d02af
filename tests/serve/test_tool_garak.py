"""garak with the page's configuration: every attempt is answered by the arm."""

import json
import os
import subprocess
from pathlib import Path

import openai
import pytest
from served import Served
from tools import block, executable

pytestmark = pytest.mark.tools


@pytest.mark.parametrize("arm", ["demo", "demo@0"])
def test_every_attempt_is_answered(arm: str, server: Served, tmp_path: Path) -> None:
    program = executable("garak")
    config = block("garak", "yaml").replace("http://127.0.0.1:8080", server.url)
    (tmp_path / "garak.yaml").write_text(config, encoding="utf-8")
    own = {"OPENAICOMPATIBLE_API_KEY": "none", "HF_HUB_OFFLINE": "1"}
    places = {f"XDG_{kind}_HOME": str(tmp_path) for kind in ("DATA", "CONFIG", "CACHE")}
    done = subprocess.run(
        [program, "--config", "garak.yaml", "--target_name", arm],
        cwd=tmp_path,
        env={**os.environ, **own, **places},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (report,) = tmp_path.glob("garak/garak_runs/*.report.jsonl")
    lines = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    (summary,) = (one for one in lines if one["entry_type"] == "eval")
    assert (summary["total_evaluated"], summary["nones"]) == (10, 0)
    # what garak noted is what the server says
    base = f"{server.url}/v1"
    asked = [one for one in lines if one["entry_type"] == "attempt"][-1]
    prompt = asked["prompt"]["turns"][0]["content"]["text"]
    with openai.OpenAI(base_url=base, api_key="none") as client:
        reply = client.chat.completions.create(
            model=arm, messages=[{"role": "user", "content": prompt}], max_tokens=150
        )
    assert asked["outputs"][0]["text"] == reply.choices[0].message.content
