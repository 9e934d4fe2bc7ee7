"""The rules of the house that a program can check: who imports whom, and what never occurs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "tijepa"
MODULES = sorted(ROOT.rglob("*.py"))

# A room sees the rooms on lower floors and itself; rooms on one floor do not see each other.
FLOORS = {
    "__main__": 13,
    "cli": 12,
    "serve": 11,
    "classify": 10,
    "training": 10,
    "export": 10,
    "search": 10,
    "runs": 9,
    "evaluate": 8,
    "inference": 7,
    "objectives": 6,
    "model": 5,
    "data": 5,
    "config": 4,
    "presets": 4,
    "io": 3,
    "registry": 2,
    "errors": 0,
    "version": 0,
}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imports(tree: ast.AST) -> Iterator[str]:
    """Absolute names that a module imports, `from a import b` as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _forbidden_imports(source_room: str, tree: ast.AST) -> list[str]:
    forbidden = []
    for name in _imports(tree):
        if name.partition(".")[0] != "tijepa":
            continue
        room = name.split(".")[1] if "." in name else ""
        allowed = room == source_room or FLOORS.get(room, 99) < FLOORS[source_room]
        if not allowed:
            forbidden.append(name)
    return forbidden


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def _keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), None)


def _unsafe_reads(tree: ast.AST) -> list[str]:
    found = [name for name in _imports(tree) if name.split(".")[0] in PICKLES]
    for name, call in _calls(tree):
        unsafe_torch = name == "torch.load" and _keyword(call, "weights_only") != "True"
        unsafe_numpy = name.endswith(".load") and _keyword(call, "allow_pickle") == "True"
        if unsafe_torch or unsafe_numpy:
            found.append(name)
    return found


def _has_annotations(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.AnnAssign)
        or (isinstance(node, ast.arg) and node.annotation is not None)
        or (isinstance(node, ast.FunctionDef) and node.returns is not None)
        for node in ast.walk(tree)
    )


def _rooms() -> list[Path]:
    return [path for path in MODULES if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", _rooms(), ids=_name)
def test_imports_point_downward(path: Path) -> None:
    room = _name(path).split(".")[1]
    assert room in FLOORS, f"room {room} has no floor: add it above"
    assert _forbidden_imports(room, _tree(path)) == []


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("data", "from tijepa.model import mlp"),
        ("model", "import tijepa.data.pairs"),
        ("evaluate", "from tijepa.training.step import step"),
        ("objectives", "from tijepa import train"),
        ("config", "from tijepa import load"),
        ("model", "def late():\n    import tijepa"),
    ],
)
def test_an_upward_import_is_noticed(room: str, line: str) -> None:
    assert _forbidden_imports(room, ast.parse(line))


@pytest.mark.parametrize(
    "path", [p for p in _rooms() if _name(p).split(".")[1] in ("model", "objectives")], ids=_name
)
def test_configuration_stops_before_models_and_objectives(path: Path) -> None:
    assert not [name for name in _imports(_tree(path)) if name.startswith("tijepa.config")]


def _module_graph() -> dict[str, set[str]]:
    """Which modules each one imports when it is imported itself; lazy imports do not count."""
    names = {_name(path) for path in MODULES}
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        top = [n for n in _tree(path).body if isinstance(n, ast.Import | ast.ImportFrom)]
        found = {name for node in top for name in _imports(node)}
        found |= {name.rpartition(".")[0] for name in found}
        graph[_name(path)] = (found & names) - {_name(path), "tijepa"}
    return graph


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of imports, or nothing: what is left once modules without open imports are taken."""
    left = {name: set(seen) for name, seen in graph.items()}
    while done := [name for name, seen in left.items() if not seen & left.keys()]:
        for name in done:
            del left[name]
    return sorted(left)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """A package's `__init__` counts as importing what it re-exports, and not as its own parent."""
    graph = _module_graph()
    packages = {_name(path) for path in MODULES if path.name == "__init__.py"}
    assert _circle({name: seen - (packages - {name}) for name, seen in graph.items()}) == []


def test_a_circle_is_noticed() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) == ["a", "b", "c"]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_module_says_what_it_is_and_defers_annotations(path: Path) -> None:
    tree = _tree(path)
    assert ast.get_docstring(tree) or (path.name == "__init__.py" and not tree.body)
    if _has_annotations(tree):
        assert "__future__.annotations" in set(_imports(tree))


def test_there_are_no_junk_drawers() -> None:
    junk = {"utils", "util", "helpers", "common", "misc"}
    assert [_name(path) for path in MODULES if path.stem in junk or path.parent.name in junk] == []


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_nothing_unpickles(path: Path) -> None:
    assert _unsafe_reads(_tree(path)) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_an_unsafe_read_is_noticed(line: str) -> None:
    assert _unsafe_reads(ast.parse(line))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_nothing_prints_except_through_a_console(path: Path) -> None:
    assert "print" not in {name for name, _ in _calls(_tree(path))}


CONSOLES = {"rich", "click"}


def _consoles(tree: ast.AST) -> list[str]:
    return [name for name in _imports(tree) if name.partition(".")[0] in CONSOLES]


@pytest.mark.parametrize(
    "path", [p for p in _rooms() if _name(p).split(".")[1] != "cli"], ids=_name
)
def test_only_the_command_line_knows_a_console(path: Path) -> None:
    assert _consoles(_tree(path)) == []


@pytest.mark.parametrize("line", ["import click", "def f():\n    from rich.table import Table"])
def test_a_console_in_the_library_is_noticed(line: str) -> None:
    assert _consoles(ast.parse(line))


# `tijepa train --data x` is a command to type, `--ink: #000` and `var(--ink)` are colours
_FLAG = re.compile(r"(?<![\w-])(?<!var\()--[a-z][a-z-]*(?![\w:)-])")


def _strings(tree: ast.AST) -> Iterator[str]:
    """Every text of a module but its documentation; `{}` stands for what is filled in."""
    left_out = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            left_out.update(map(id, node.values))
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append((id(node), node.value))
    yield from (text for place, text in texts if place not in left_out)


def _flags(tree: ast.AST) -> list[str]:
    """Texts that name a flag outside a whole command; a flag alone is a word of one."""
    return [
        text
        for text in _strings(tree)
        if _FLAG.search(re.split(r"tijepa [a-z]+ ", text)[0]) and not _FLAG.fullmatch(text)
    ]


@pytest.mark.parametrize(
    "path", [p for p in _rooms() if _name(p).split(".")[1] != "cli"], ids=_name
)
def test_no_message_of_the_library_names_a_flag(path: Path) -> None:
    """A setting stands in backticks, and `tijepa.cli.options.in_flags` makes a flag of it."""
    assert _flags(_tree(path)) == []


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('raise ConfigError(f"{out} is taken: name another --out")', True),
        ('f"--out {out} is a file"', True),
        ('"name another `out`"', False),
        ('"make one with: tijepa prepare SOURCE --out NAME.lance"', False),
        ('["tijepa", "prepare", store, "--out", new]', False),
        ('":root { --ink: #000 } p { color: var(--ink) }"', False),
    ],
)
def test_a_flag_in_a_message_is_noticed(line: str, named: bool) -> None:
    assert bool(_flags(ast.parse(line))) is named
