"""The walkthrough works as it is written: its commands run, and yield what it shows."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

import tijepa

PAGE = Path(__file__).parents[2] / "docs" / "walkthrough.md"
MARK = "=== step"
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FRACTION = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")

pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or shutil.which("curl") is None,
    reason="the walkthrough is for bash and curl",
)


@dataclass(frozen=True)
class Step:
    """A block of commands, what the page shows below it, and whether that depends on the model."""

    code: str
    shown: str
    differs: bool


@dataclass(frozen=True)
class Walked:
    """The folder in which a section was walked, its port, and what each step printed."""

    folder: Path
    port: int
    outputs: list[str]


def steps(section: str) -> list[Step]:
    """The blocks of shell commands below a heading of the second level, in order."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = _FENCE.findall(text)
    found = []
    for (kind, code), (below, shown) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind == "bash":
            assert below.startswith("text"), f"nothing is shown below: {code}"
            found.append(Step(code, shown, "yours will" in below))
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def walk(section: str, folder: Path, limit: float) -> Walked:
    """Run the steps in one shell, in order; only the port is another.

    Whatever was started is gone afterwards.
    """
    port = free_port()
    script = ["set -em"]  # stop at the first failure; a job of its own for each &, as at a prompt
    for step in steps(section):
        script += [step.code.replace("8000", str(port)), f"echo; echo '{MARK}'"]
    environment = {**os.environ, "PYTHONPATH": str(Path(tijepa.__file__).parents[1])}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name in ("TIJEPA_API_KEY", "COLUMNS", "FORCE_COLOR", "TERM", "http_proxy", "HTTP_PROXY"):
        environment.pop(name, None)
    (folder / "walk.sh").write_text("\n".join(script), encoding="utf-8")
    with (folder / "walk.out").open("w+b") as out:
        shell = subprocess.Popen(
            ["bash", "walk.sh"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = shell.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_session(shell.pid)
            shell.wait()
        out.seek(0)
        said = out.read().decode()
    outputs = said.split(f"\n{MARK}\n")
    if status != 0:
        at = steps(section)[len(outputs) - 1].code
        how = f"exit code {status}" if status is not None else f"not done after {limit:.0f} s"
        pytest.fail(f"{how} in the step\n{at}\nwhich said\n{outputs[-1]}")
    return Walked(folder, port, outputs[:-1])


def end_session(leader: int) -> None:
    """Kill every process of the session: each job of the shell has a process group of its own."""
    listed = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=True)
    for number in map(int, listed.stdout.split()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(number) == leader:
                os.kill(number, signal.SIGKILL)


def pattern(line: str) -> re.Pattern[str]:
    """A line of the page as what a run may print: other fractions and spaces, anything for `…`."""
    parts = [r"\s+".join(_free(word) for word in part.split()) for part in line.split("…")]
    return re.compile(r"\s*" + r"\s*.*\s*".join(parts) + r"\s*")


def _free(word: str) -> str:
    return _FRACTION.pattern.join(re.escape(text) for text in _FRACTION.split(word))


def missing(shown: str, printed: str, port: int = 8000) -> str | None:
    """The first line of `shown` that does not come, in order, among those printed."""
    lines = iter(printed.splitlines())
    for line in shown.splitlines():
        if line.strip() in ("", "…"):
            continue
        wanted = pattern(line.replace("8000", str(port)))
        if not any(wanted.fullmatch(one) for one in lines):
            return line
    return None


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Walked:
    return walk("Scenes", tmp_path_factory.mktemp("scenes"), 280)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Walked:
    """The page's folders are those of real photos and weights."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "my-photos").symlink_to(real_data / "data" / "flickr8k")
    (folder / "vit_tiny_patch16_224").symlink_to(real_data / "weights" / "vit_tiny_patch16_224")
    return walk("Your own photos", folder, 1700)


@pytest.mark.slow
def test_every_step_of_the_scenes_yields_what_is_shown(scenes: Walked) -> None:
    check_shown("Scenes", scenes)


@pytest.mark.slow
def test_a_search_finds_scenes_that_fit(scenes: Walked) -> None:
    """Of four scenes in ten a caption says blue; here it is nearly all of the ten first."""
    hits = json.loads((scenes.folder / "found.json").read_text())["hits"]
    assert len(hits) == 10
    assert {hit["split"] for hit in hits} == {"test"}
    assert sum("blue" in hit["caption"] for hit in hits) >= 6
    assert "blue" in printed_by("ask.py", "Scenes", scenes)


@pytest.mark.slow
def test_energy_over_http_tells_right_from_wrong(scenes: Walked) -> None:
    (energies,) = json.loads((scenes.folder / "energy.json").read_text())["energy"]
    assert energies[0] < energies[1]


@pytest.mark.slow
def test_the_scenes_leave_what_the_page_names(scenes: Walked) -> None:
    for name in ("runs/demo/report.html", "gallery.html"):
        assert (scenes.folder / name).read_text().lower().startswith("<!doctype html>")
    check_overlay(scenes)


@pytest.mark.slow
def test_the_server_has_stopped(scenes: Walked) -> None:
    with socket.socket() as one:
        assert one.connect_ex(("127.0.0.1", scenes.port)) != 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_photos_of_ones_own_are_found(photos: Walked) -> None:
    """One of the three best shows a dog in Flickr8k's captions, as about a quarter of all do."""
    check_shown("Your own photos", photos)
    hits = json.loads((photos.folder / "found.json").read_text())["hits"]
    assert sum("dog" in hit["caption"].lower() for hit in hits) >= 5
    check_overlay(photos)


def check_shown(section: str, walked: Walked) -> None:
    """Line by line; where the page says that it differs, as many lines with the same beginnings."""
    for step, printed in zip(steps(section), walked.outputs, strict=True):
        shown = blurred(step.shown) if step.differs else step.shown
        line = missing(shown, printed, walked.port)
        assert line is None, f"{line}\nis not printed by\n{step.code}\nbut\n{printed}"


def blurred(shown: str) -> str:
    """Without what depends on the items found: the first word of a line, a key of JSON, stays."""
    lines = [line for line in shown.splitlines() if not line.startswith(" " * 20)]
    return "\n".join(
        line
        if line.lstrip().startswith(("energy (nats)", "gallery:", "─", "indexed", "{", "}"))
        else re.sub(r"^(\s*\S+)\s.*", r"\1 …", line)
        for line in lines
    )


def check_overlay(walked: Walked) -> None:
    """A PNG that is more than one colour."""
    with Image.open(walked.folder / "overlay.png") as overlay:
        assert overlay.format == "PNG"
        assert len(overlay.convert("RGB").getcolors(2**24) or []) > 100


def printed_by(word: str, section: str, walked: Walked) -> str:
    """What the only step that mentions `word` printed."""
    (number,) = [n for n, step in enumerate(steps(section)) if word in step.code]
    return walked.outputs[number]


def test_output_that_is_not_shown_is_noticed() -> None:
    """Fractions and spaces are free, whole numbers and words are not; order counts."""
    printed = "written  12 items\nloss 1.25 after 3 steps\nexit code 0\n"
    assert missing("written 12 items\n…\nexit code 0", printed) is None
    assert missing("loss 0.75 after …", printed) is None
    assert missing("loss … steps", printed) is None
    assert missing("written 13 items", printed) == "written 13 items"
    assert missing("exit code 1", printed) == "exit code 1"
    assert missing("exit code 0\nwritten 12 items", printed) == "written 12 items"


def test_a_failing_walk_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page whose second step fails while the first still runs in the background."""
    page = tmp_path / "page.md"
    start = "```bash\nsleep 600 &\necho $! > pid\n```\n\n```text\n```\n"
    page.write_text(f"\n## A\n{start}\n```bash\ncat nothing\n```\n\n```text\n```\n")
    monkeypatch.setattr(sys.modules[__name__], "PAGE", page)
    with pytest.raises(pytest.fail.Exception, match="exit code 1 in the step\ncat nothing"):
        walk("A", tmp_path, 60)
    left = int((tmp_path / "pid").read_text())
    listed = subprocess.run(
        ["ps", "-p", str(left), "-o", "stat="], capture_output=True, text=True, check=False
    )
    assert listed.stdout.strip()[:1] in ("", "Z")
