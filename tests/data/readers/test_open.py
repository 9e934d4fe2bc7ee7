from __future__ import annotations

import os
from pathlib import Path

import pytest

from tijepa.data.readers import open_reader, readers
from tijepa.data.readers.files import digest_of_files, read_file
from tijepa.data.records import ReaderOptions
from tijepa.errors import ConfigError, DataError

from . import pairs_on_disk as disk


@pytest.mark.parametrize("layout", disk.WRITERS)
def test_only_one_reader_recognises_a_layout(tmp_path: Path, layout: str) -> None:
    source = disk.WRITERS[layout](tmp_path, disk.pairs())
    found = [name for name, reader in readers().items() if reader.recognises(source)]
    assert found == [layout.partition("-")[0]]


def test_every_reader_of_files_has_a_writer_that_shows_that_it_gives_the_same_pairs() -> None:
    """Those without one read what has tests of its own: scenes, the hub, stores, MVSA."""
    written = {layout.partition("-")[0] for layout in disk.WRITERS}
    assert readers().keys() - written == {"scenes", "hub", "lance", "mvsa", "memory"}
    assert all(reader.name == name for name, reader in readers().items())


@pytest.mark.parametrize("reader", readers())
@pytest.mark.parametrize("source", ["", "nothing/here", "a\0b", "\ud83d", "x" * 5000, "{", "~"])
def test_recognising_never_raises(reader: str, source: str) -> None:
    assert readers()[reader].recognises(source) in (True, False)


@pytest.mark.parametrize("source", ["nothing/here", "a\0b", "\ud83d", "x" * 5000, "{0..1}.tar"])
def test_what_does_not_exist_is_refused_in_one_line(source: str) -> None:
    with pytest.raises(DataError) as caught:
        open_reader(source)
    assert "\n" not in str(caught.value)


def test_an_unknown_reader_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'webdatasets' is unknown; did you mean 'webdataset'"):
        open_reader(str(tmp_path), reader="webdatasets")


@pytest.mark.parametrize("layout", ["coco", "karpathy", "siblings", "webdataset"])
def test_an_option_without_effect_is_refused(tmp_path: Path, layout: str) -> None:
    source = disk.WRITERS[layout](tmp_path, disk.pairs())
    with pytest.raises(ConfigError, match=f"`image_column` has no effect .* as {layout}: drop it"):
        open_reader(source, options=ReaderOptions(image_column="x"))
    with pytest.raises(ConfigError, match="`split_column` has no effect on scenes"):
        open_reader("scenes", options=ReaderOptions(split_column="x"))


def test_nothing_recognised_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="nothing recognised") as caught:
        open_reader(str(tmp_path))
    for part in (".csv", "name.txt", "COCO", "Karpathy", ".tar", ".parquet", "save_to_disk"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_home_folder_may_be_written_as_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.json_lines(tmp_path, disk.pairs())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(list(open_reader("~"))) == 12


def test_a_named_table_goes_before_archives_that_lie_beside(tmp_path: Path) -> None:
    disk.json_lines(tmp_path, disk.pairs())
    (tmp_path / "images.tar").write_bytes(b"an old download")
    assert open_reader(str(tmp_path)).name == "table"


def test_a_list_of_addresses_does_not_hide_the_shards_beside(tmp_path: Path) -> None:
    disk.web_shards(tmp_path, disk.pairs())
    (tmp_path / "urls.csv").write_text("url,caption\nhttp://x,a\n")
    assert open_reader(str(tmp_path)).name == "webdataset"


def test_a_file_that_may_not_be_read_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DataError, match="file cannot be read: Permission denied"):
        read_file(tmp_path / "a.jpg")


def test_a_file_beyond_the_bound_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(256_000_001)
    with pytest.raises(DataError, match="256,000,001 bytes exceed the bound of 256,000,000"):
        read_file(tmp_path / "a.jpg")


def test_a_digest_tells_missing_files_from_empty_ones(tmp_path: Path) -> None:
    missing = digest_of_files(tmp_path, ["a"])
    (tmp_path / "a").write_bytes(b"")
    assert digest_of_files(tmp_path, ["a"]) != missing
