"""promptfoo with the page's configuration: two arms side by side."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from served import Served
from tools import block, executable

pytestmark = pytest.mark.tools


def test_two_arms_side_by_side(server: Served, tmp_path: Path) -> None:
    program = executable("promptfoo")
    config = block("promptfoo", "yaml").replace("http://127.0.0.1:8080", server.url)
    (tmp_path / "promptfooconfig.yaml").write_text(config, encoding="utf-8")
    quiet = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1"}
    done = subprocess.run(
        [program, "eval", "--no-cache", "-o", "found.json"],
        cwd=tmp_path,
        env={**os.environ, **quiet, "PROMPTFOO_CONFIG_DIR": str(tmp_path / "own")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 100, done.stderr  # one of the four failed
    results = json.loads((tmp_path / "found.json").read_text("utf-8"))["results"]
    found: dict[Any, Any] = {
        (one["provider"]["label"], one["vars"]["question"][:6]): one
        for one in results["results"]
    }
    passed = {key: one["success"] for key, one in found.items()}
    assert passed == {
        ("as it is", "How do"): False,
        ("ablated", "How do"): True,
        ("as it is", "What i"): True,
        ("ablated", "What i"): True,
    }
    labels = {key: one["response"]["metadata"]["label"] for key, one in found.items()}
    assert labels["as it is", "How do"] == "REFUSED"
    for (name, _), one in found.items():
        circuits = one["response"]["metadata"]["circuits"]
        assert circuits == ({} if name == "as it is" else {"magic": "0"})
