"""Help that is whole at 80 columns, hints for habits, the shell's completion."""

import os
import subprocess
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from commandline import TINY, Outcome
from evaluation_runs import make_circuit, make_run
from hub import COMMIT

from cna_mlx.cli import _GROUPS, _HABITS, cli

Command = Callable[..., Outcome]


@pytest.mark.parametrize("words", [(), ("circuit",), ("prompts",)], ids=str)
def test_every_command_is_in_the_help_with_its_whole_sentence(
    words: tuple[str, ...], command: Command
) -> None:
    shown = command(*words, "-h").out
    assert shown == command(*words, "--help").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "..." not in shown.partition("\n")[2]
    group: click.Group = cli
    for word in words:
        group = group.get_command(click.Context(cli), word)  # type: ignore[assignment]
    said = " ".join(shown.split())
    for name in group.list_commands(click.Context(group)):
        one = group.get_command(click.Context(group), name)
        assert one is not None
        first = " ".join((one.help or "").partition("\n\n")[0].split())
        assert f" {name} {first.partition('. ')[0].rstrip('.')}" in said


def test_commands_stand_in_groups(command: Command) -> None:
    lines = command("--help").out.splitlines()
    at = [lines.index(f"{title}:") for title in _GROUPS]
    assert at == sorted(at)
    assert sorted(n for names in _GROUPS.values() for n in names) == sorted(
        cli.list_commands(click.Context(cli))
    )


def test_shared_options_stand_under_a_heading(command: Command) -> None:
    shown = command("audit", "-h").out
    heads = ("Options:", "Model:", "Circuit:", "Measurement:", "Chat template:")
    places = [shown.index(f"\n{head}\n") for head in heads]
    assert places == sorted(places)
    model = shown[places[1] : places[2]]
    assert "--offline" in model
    assert "--max-tokens" not in model
    assert shown.count("--circuit FILE") == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("list",), "cna-mlx models"),
        (("run", "llama"), "cna-mlx chat"),
        (("serch", "demo"), "did you mean search?"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("chat", "--model", "demo"), "first argument"),
        (("audit", "--model", "demo"), "first argument"),
        (("chat", "demo", "--temperature", "1"), "--temp"),
        (("diff", "demo", "--max_tokens", "9"), "--max-tokens"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_habits_of_other_tools_get_a_hint(
    words: tuple[str, ...], hint: str, command: Command
) -> None:
    done = command(*words)
    assert done.code == 2
    assert hint in done.failure


def test_hints_name_commands_that_exist() -> None:
    names = cli.list_commands(click.Context(cli))
    assert not set(_HABITS) & set(names)
    for hint in _HABITS.values():
        for word in hint.split("cna-mlx ")[1:]:
            first = word.split()[0].rstrip(",")
            assert first in (*names, "COMMAND", "--version", "--help")


def completed(*words: str, **environment: str) -> list[str]:
    """What bash would offer for the last word."""
    line = " ".join(("cna-mlx", *words))
    done = subprocess.run(
        [sys.executable, "-c", "from cna_mlx.cli import main; main()"],
        env={
            **os.environ,
            "_CNA_MLX_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_names(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "eval-one")
    snapshot = tmp_path / "hub" / "models--some--llama-x" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    around = {
        "CNA_MLX_RUNS": str(tmp_path / "runs"),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
    }
    assert completed("discover", "demo", "--contrast", "refusal-") == [
        "plain,refusal-small"
    ]
    models = completed("chat", "", **around)
    assert {"plain,demo", "plain,some/llama-x"} < set(models)
    assert any(one.startswith("dir,") for one in models)
    assert completed("report", "ev", **around) == ["plain,eval-one", "dir,ev"]
    assert completed("verify", "ev", **around) == ["plain,eval-one", "dir,ev"]
    assert "plain,eval-one" in completed("compare", "demo", "ev", **around)
    assert completed("circuit", "show", "c") == ["file,c"]
    assert completed("prompts", "show", "jbb-") == ["plain,jbb-benign"]
    assert completed("eval", "demo", "--prompts", "xs") == ["plain,xstest", "file,xs"]
    assert completed("discover", "demo", "-o", "c") == ["file,c"]
    assert "plain,stability" in completed("st")


def test_completion_survives_places_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    around = {"CNA_MLX_RUNS": str(file), "HF_HUB_CACHE": str(file)}
    assert completed("report", "e", **around) == ["dir,e"]
    assert completed("chat", "dem", **around) == [
        "plain,demo",
        "plain,demo-base",
        "dir,dem",
    ]


def test_every_option_that_takes_a_file_completes_files() -> None:
    from test_cli import commands

    for path, one in commands():
        for option in one.params:
            if str(option.metavar or "").startswith(("FILE", "DIR")):
                items = option.shell_complete(click.Context(one), "x")
                assert {item.type for item in items} & {"file", "dir"}, (path, option)


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_open_says_where_the_page_is_without_a_browser(
    platform: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("cna_mlx.commands.values.sys.platform", platform)
    monkeypatch.setattr(click, "launch", lambda path: opened.append(path) or 1)
    monkeypatch.setattr(webbrowser, "open", lambda uri: opened.append(uri))
    run = str(make_run(tmp_path / "run").directory)
    done = command("report", run, "--open")
    assert done.code == 0
    page = str(tmp_path / "run" / "report.html")
    assert opened == [page if platform == "darwin" else f"file://{page}"]
    assert f"open {page}" in done.err.replace("\n", " ")
    circuit = tmp_path / "c.json"
    make_circuit().save(circuit)
    assert "--out" in command("circuit", "show", str(circuit), "--open").failure
    assert command("circuit", "show", str(circuit)).code == 0


def test_one_shot_answers_and_ends(command: Command, circuit_file: Path) -> None:
    known = ("--circuit", str(circuit_file), "--max-tokens", "6")
    done = command("chat", TINY, "one red stone", *known, "-p", "two blue birds")
    assert done.code == 0, done.err
    assert done.out.count("baseline  ") == 2
    assert done.out.count("ablated  ") == 2
    assert "Ctrl-D" not in done.err
    one = command("diff", TINY, "one red stone", *known, "--json").data["results"]
    other = command("diff", TINY, "-p", "one red stone", *known, "--json").data
    assert [each["prompt"] for each in one] == ["one red stone"]
    assert one == other["results"]
    assert "blank" in command("chat", TINY, "  ").failure
