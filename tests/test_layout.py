"""Folders import only folders below them, and no file imports itself in a circle."""

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cna_mlx"
#: Top floor first; folders on one line may not import each other.
FLOORS = (
    ("cli",),
    ("commands",),
    ("ui",),
    ("report", "chat", "diagnostics", "serve"),
    ("search",),
    ("analysis",),
    ("evaluation",),
    ("discovery",),
    ("steering",),
    ("labels",),
    ("prompts",),
    ("models",),
    ("circuit_sets", "circuit_profile"),
    ("circuit",),
    ("provenance", "neurons", "strength"),
    ("util",),
    ("errors",),
)
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imports(module: str) -> set[str]:
    """The modules of this package that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                found.add(whole if whole in SOURCES else node.module)
    return {name for name in found if name in SOURCES}


def _folder(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and not parts[1].startswith("__") else None


def test_every_folder_has_its_floor() -> None:
    assert {_folder(module) for module in SOURCES} - {None, "demo"} == set(FLOOR)


@pytest.mark.parametrize("folder", FLOOR)
def test_a_folder_imports_only_what_is_below(folder: str) -> None:
    upward = [
        f"{module} imports {other}"
        for module in SOURCES
        if _folder(module) == folder
        for other in _imports(module)
        if (above := _folder(other)) not in (None, folder)
        and FLOOR[above] <= FLOOR[folder]
    ]
    assert upward == []


def test_no_files_import_each_other_in_a_circle() -> None:
    left = {module: _imports(module) - {module} for module in SOURCES}
    while leaves := [m for m, needs in left.items() if not needs & left.keys()]:
        for module in leaves:
            del left[module]
    assert sorted(left) == []


@pytest.mark.parametrize("library", ["click", "rich", "prompt_toolkit"])
def test_the_library_knows_no_terminal(library: str) -> None:
    allowed = {"cli", "commands"} if library == "click" else {"ui"}
    found = [
        module
        for module, path in SOURCES.items()
        if _folder(module) not in allowed
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.split(".")[0] == library
    ]
    assert found == []


def test_every_class_name_occurs_once() -> None:
    names = Counter(
        node.name
        for path in SOURCES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []
