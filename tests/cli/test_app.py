from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.complaints import below_reading

from tijepa import registry
from tijepa.cli import main
from tijepa.cli.app import WORKFLOW, app
from tijepa.errors import DataError
from tijepa.version import __version__

COMMAND = [sys.executable, "-c", "import sys; from tijepa.cli import main; sys.exit(main())"]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes `tijepa train` raise."""

    def install(error: BaseException) -> None:
        def train(*arguments: object, **keywords: object) -> None:
            raise error

        chosen = SimpleNamespace(configured=train)
        monkeypatch.setitem(sys.modules, "tijepa.training.choose", chosen)

    return install


@pytest.mark.parametrize("verb", ["", *app.commands])
def test_help_fits_a_screen(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("columns", ["80", "120"])
def test_verbs_stand_by_workflow_and_none_is_cut(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["--help"]) == 0
    out = capsys.readouterr().out.partition("\n")[2]  # below the usage
    assert "..." not in out
    assert "…" not in out
    rows = [(line[2:8].strip(), line[9:].split()) for line in out.splitlines()]
    headed = [(group, row[0]) for group, row in rows if group in WORKFLOW]
    assert headed == [("data", "doctor"), ("train", "demo"), ("look", "evaluate"), ("use", "index")]
    assert {verb for verb in app.commands if verb in out.split()} == set(app.commands)


def test_every_verb_says_what_it_reads_before_torch_is_imported(tmp_path: Path) -> None:
    """All in one process, in which importing torch fails and says so on stderr."""
    (tmp_path / "run").mkdir()
    (tmp_path / "a.png").write_bytes(b"")
    given = {
        "filter": "pairs.lance --run run --keep 0.5 --out out",
        "pair": "pairs.lance --run run --out out",
        "train": "--preset scenes --data photos --out out",
        "sweep": "--config none.yaml --grid seed=0 --out out",
        "evaluate": "run --data photos",
        "compare": "run run",
        "explain": "run a.png words",
        "probe": "run pairs.lance --label mood",
        "search": "run pairs.lance --image a.png",
        "embed": "run pairs.lance --out e.npy",
        "classify fit": "run pairs.lance --label mood",
        "classify predict": "run pairs.lance --name mood --out a.csv",
        "export": "run --out graphs",
        "prepare": "photos --out a.lance",
        "doctor": "photos",
        "demo": "",
    } | dict.fromkeys(("index", "serve"), "run pairs.lance")
    verbs = {verb for verb in app.commands if verb not in ("presets", "classify")}
    assert verbs | {"classify fit", "classify predict"} == set(given)
    script = f"""
import contextlib, io, json, sys
class Blocked:
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print("torch", file=sys.stderr)
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from tijepa.cli import main
told = {{}}
for verb, arguments in {given!r}.items():
    out = contextlib.redirect_stdout(io.StringIO())
    with contextlib.redirect_stderr(io.StringIO()) as err, out:
        main([*verb.split(), *arguments.split()])
    told[verb] = err.getvalue().splitlines()
print(json.dumps(told))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    told: dict[str, list[str]] = json.loads(done.stdout)
    first = {verb: lines[0].removeprefix("reading   ") for verb, lines in told.items()}
    assert first.pop("train") == "preset scenes, photos"
    assert first.pop("sweep") == "none.yaml"
    assert first.pop("evaluate") == "run, photos"
    assert first.pop("compare") == "run, run"
    assert (first.pop("explain"), first.pop("search")) == ("run, a.png", "run, pairs.lance, a.png")
    assert (first.pop("demo"), first.pop("export")) == ("the settings", "run")
    assert {first.pop("prepare"), first.pop("doctor")} == {"photos"}
    assert set(first.values()) == {"run, pairs.lance"}
    assert "torch" in told["search"]  # what is heavy came after the line


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["train", "--help"], ["presets"]])
def test_what_takes_no_time_says_nothing_beforehand(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out
    assert err == ""


def test_without_a_verb_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: tijepa")


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tijepa {__version__}\n"


@pytest.mark.parametrize(("given", "then"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_idle_threads_sleep_unless_the_environment_says_otherwise(
    given: str | None, then: str
) -> None:
    """OpenMP reads its policy when torch is imported: it has to stand there before."""
    script = (
        "import os, sys; from tijepa.cli import main; main(['--version']);"
        "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"{then} False"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "--prest", "scenes"], "'--preset'"),
        (["train", "--preset"], "requires an argument"),
        (["evaluate"], "Missing argument 'RUN'."),
        (["--nonsense"], "No such option '--nonsense'."),
    ],
)
def test_a_mistyped_command_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_an_error_of_the_user_is_one_line_and_exit_code_2(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(DataError("photos/a.jpg\n cannot be read: delete it"))
    assert main(["train"]) == 2
    assert (
        below_reading(capsys.readouterr().err) == "error: photos/a.jpg cannot be read: delete it\n"
    )


def test_control_characters_in_an_error_are_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "no\x1b[2Jsuch"]) == 2
    assert r"no\x1b[2Jsuch" in capsys.readouterr().err


def test_a_bug_says_so_in_one_line_and_exit_code_1(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(AssertionError("lengths differ"))
    assert main(["train"]) == 1
    err = below_reading(capsys.readouterr().err)
    assert err.startswith("error: AssertionError: lengths differ (a bug of tijepa;")
    assert "--debug" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--debug", "train"], ["train", "--debug"]])
@pytest.mark.parametrize(("error", "code"), [(DataError("no photos"), 2), (KeyError("x"), 1)])
def test_debug_shows_the_traceback(
    arguments: list[str],
    error: Exception,
    code: int,
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(error)
    assert main(arguments) == code
    assert "Traceback (most recent call last):" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "runs/a: No space left on device; free some space"),
        (errno.EACCES, "runs/a: Permission denied; change its permissions"),
        (errno.EROFS, "runs/a: Read-only file system; name a folder"),
        (errno.ENOTDIR, "runs/a: Not a directory; a part of the path is a file"),
    ],
)
def test_a_disk_that_cannot_be_written_is_the_users_matter(
    code: int,
    message: str,
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(OSError(code, os.strerror(code), "runs/a"))
    assert main(["train"]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate"
                " memory: you tried to allocate 80000 bytes. Error code 12 (Cannot allocate memory)"
            ),
            " (80000 bytes were asked for at once)",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
            " (2.00 GiB were asked for at once)",
        ),
        (MemoryError(), ""),
    ],
)
def test_too_little_memory_is_the_users_matter(
    error: Exception,
    asked: str,
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(error)
    assert main(["train"]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.startswith(f"error: out of memory{asked}; a run needs less with a larger")
    assert err.count("\n") == 1


def test_a_missing_file_inside_tijepa_is_a_bug(failing: Callable[[BaseException], None]) -> None:
    failing(FileNotFoundError(errno.ENOENT, "No such file", "x"))
    assert main(["train"]) == 1


def test_an_interrupted_run_exits_with_130(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(KeyboardInterrupt())
    assert main(["train"]) == 130
    assert below_reading(capsys.readouterr().err).strip() == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--version"], 0), (["trian"], 2), (["train", "optim.lrr=1", "--dry-run"], 2)],
)
def test_a_process_exits_with_the_code(arguments: list[str], code: int) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert below_reading(done.stderr).count("\n") == (1 if code else 0)
    assert "Traceback" not in done.stderr


def test_help_does_not_import_torch_or_read_a_configuration() -> None:
    code = (
        "import sys; from tijepa.cli import main; main(['train', '--help'])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'pydantic', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_usage_error_of_a_search_does_not_wait_for_torch() -> None:
    script = (
        "import sys; from tijepa.cli import main\n"
        "code = main(['search', '.', 'pairs.lance'])\n"
        "sys.exit(code != 2 or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"Give TEXT, --image or --like" in done.stderr


@pytest.mark.parametrize("before", [True, False])
def test_a_plugin_is_imported_before_any_verb(
    before: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "told_of_import.py").write_text("print('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_named", [])
    monkeypatch.delitem(sys.modules, "told_of_import", raising=False)
    plugin = ["--plugin", "told_of_import"] if before else ["--plugin=told_of_import"]
    assert main([*plugin, "presets"] if before else ["presets", *plugin]) == 0
    assert capsys.readouterr().out.startswith("imported\n")


def test_a_plugin_that_is_missing_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "--plugin", "nobodys_package"]) == 2
    assert "plug-in package 'nobodys_package' is not installed" in capsys.readouterr().err
    assert main(["presets", "--plugin"]) == 2
    assert "--plugin" in capsys.readouterr().err
