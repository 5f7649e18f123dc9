"""Imports point down the order of the rooms, never up, and never in a circle; see CONTRIBUTING.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "img2img"
ORDER = [
    {"__main__"},
    {"cli"},
    {"commands"},
    {"training"},
    {"anomaly"},
    {"latents"},
    {"serve"},
    {"inference"},
    {"exporting"},
    {"callbacks"},
    {"tasks"},
    {"trainer"},
    {"resuming"},
    {"distributed", "checkpoint_io"},
    {"data"},
    {"tiling"},
    {"imaging"},
    {"networks"},
    {"corruptions"},
    {"shipped", "errors", "version", "signature_parser", "own_classes", "plain_yaml"},
]
"""The rooms, the highest first; those of a set stand beside each other and do not import one another but leaves."""
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Full names of our modules that a module imports, anywhere in it; those for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" if exists(f"{node.module}.{alias.name}") else node.module
                      for alias in node.names}  # fmt: skip
    return {name for name in found if name.split(".")[0] == "img2img"}


def exists(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_every_module_belongs_to_a_room():
    assert {room_of(path) for path in MODULES} - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down(path):
    room = room_of(path)
    if room == "__init__":
        return  # the front door, which imports when a function is first used
    for name in imports_of(path):
        other = name.split(".")[1] if "." in name else ""
        if not other:
            assert name == "img2img"
            pytest.fail(f"{path.name} imports the package itself; import the module where a thing is defined")
        leaves = {room, other} <= ORDER[-1]
        allowed = other == room or LEVEL[other] > LEVEL[room] or leaves
        assert allowed, f"{path.relative_to(PACKAGE)} ({room}) imports {name}, which lies above it"


def test_no_circle():
    """Modules of one room import each other in one direction only."""
    graph = {}
    for path in MODULES:
        relative = path.relative_to(PACKAGE.parent).with_suffix("")
        name = ".".join(relative.parts).removesuffix(".__init__")
        graph[name] = {other for other in at_import(path) if other != name}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' → '.join([*way[way.index(name) :], name])}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def at_import(path: Path) -> set[str]:
    """Modules of ours that are imported when a module is; not those within functions or for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("img2img"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if exists(name) else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("img2img.")}
    return found


def test_modules_and_functions_stay_small():
    long_modules = {path.name: n for path in MODULES if (n := len(path.read_text(encoding="utf-8").splitlines())) > 300}
    assert not long_modules, "split what has grown"
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                assert length <= 50, f"{path.name}: {node.name} has {length} lines"
