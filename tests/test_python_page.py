"""The page on Python: its code runs as written, without a terminal's libraries."""

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = """
import sys
names = {"__name__": "__main__"}
for number, block in enumerate(sys.stdin.read().split("\\0")):
    exec(compile(block, f"block {number + 1}", "exec"), names)
terminal = {"click", "rich", "prompt_toolkit"}
print("TERMINAL", sorted(terminal & {name.partition(".")[0] for name in sys.modules}))
"""


def test_every_block_is_python_and_imports_what_exists() -> None:
    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = import_module(str(node.module))
                assert all(hasattr(module, name.name) for name in node.names)


@pytest.mark.slow
def test_every_block_runs_in_order(tmp_path: Path) -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    places = {"CNA_MLX_CACHE": tmp_path / "cache", "CNA_MLX_RUNS": tmp_path / "runs"}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input="\0".join(blocks),
        cwd=tmp_path,
        env={**os.environ, **{name: str(place) for name, place in places.items()}},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "TERMINAL []"
    for name in ("audit", "evaluation", "watched"):
        assert (tmp_path / name / "run.json").is_file()
    assert (tmp_path / "report" / "report.html").is_file()


def test_every_public_function_has_a_recipe() -> None:
    import cna_mlx

    code = "\n".join(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    functions = [name for name in cna_mlx.__all__ if name.islower()]
    assert [name for name in functions if not re.search(rf"\b{name}\b", code)] == []
