"""How large the house is: lines and files by room, and whether the bounds of the design hold.

    python benchmarks/house.py

Exit code 1 where a bound is broken: 27,500 lines of Python and 200 files in `src`, 400 lines in a
file, 16 files flat in a folder, 0.8 lines of tests for a line of `src`.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES, MOST_FILES, LONGEST, FLAT, TESTED = 27_500, 200, 400, 16, 0.8


@dataclass(frozen=True)
class File:
    """A Python file: its path below `src/tijepa` or `tests`, lines, and names that others use."""

    path: Path
    lines: int
    names: int

    @property
    def room(self) -> str:
        """The first folder, or the file itself where it stands in none."""
        return self.path.parts[0] if len(self.path.parts) > 1 else "."


def read(folder: Path) -> list[File]:
    """Every Python file below `folder`, caches left out."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(File(path.relative_to(folder), text.count("\n"), _public(ast.parse(text))))
    return found


def _public(tree: ast.Module) -> int:
    """Functions and classes at the top whose names do not begin with an underscore."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return sum(isinstance(node, kinds) and not node.name.startswith("_") for node in tree.body)


def flat(files: Sequence[File]) -> Counter[str]:
    """Files by folder, `__init__.py` left out."""
    return Counter(str(one.path.parent) for one in files if one.path.name != "__init__.py")


def broken(source: Sequence[File], tests: Sequence[File]) -> list[str]:
    """One line for each bound that does not hold."""
    lines, tested = sum(one.lines for one in source), sum(one.lines for one in tests)
    found = []
    if lines > MOST_LINES:
        found.append(f"src has {lines:,} lines, {lines - MOST_LINES:,} more than {MOST_LINES:,}")
    if len(source) > MOST_FILES:
        found.append(f"src has {len(source)} files, {len(source) - MOST_FILES} above {MOST_FILES}")
    found += [
        f"{one.path} has {one.lines} lines, above {LONGEST}"
        for one in source
        if one.lines > LONGEST
    ]
    found += [
        f"{folder} has {count} files flat, above {FLAT}"
        for folder, count in flat(source).items()
        if count > FLAT
    ]
    if tested < TESTED * lines:
        found.append(f"tests have {tested / max(1, lines):.2f} lines a line of src, below {TESTED}")
    return found


def table(source: Sequence[File], tests: Sequence[File]) -> str:
    """A line for each room: lines and files of `src`, lines of the tests that mirror it."""
    rooms = sorted({one.room for one in source} | {one.room for one in tests})
    rows = [f"{'room':<14}{'lines':>8}{'files':>7}{'tests':>8}"]
    for room in [*rooms, "all"]:
        own, other = (
            [one for one in files if room in ("all", one.room)] for files in (source, tests)
        )
        rows.append(
            f"{room:<14}{sum(one.lines for one in own):>8,}{len(own):>7}"
            f"{sum(one.lines for one in other):>8,}"
        )
    longest = max(source, key=lambda one: one.lines)
    single = sum(one.names == 1 for one in source)
    ratio = sum(one.lines for one in tests) / max(1, sum(one.lines for one in source))
    rows.append(f"largest file: {longest.path}, {longest.lines} lines")
    rows.append(f"files with one public function or class: {single} of {len(source)}")
    rows.append(f"lines of tests for a line of src: {ratio:.2f}")
    return "\n".join(rows)


def main() -> int:
    """Print the rooms and what is broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout")
    root = parser.parse_args().root
    source, tests = read(root / "src" / "tijepa"), read(root / "tests")
    print(table(source, tests))
    problems = broken(source, tests)
    for problem in problems:
        print(f"broken: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
