"""A watched folder gives a file once it is still, and a content once."""

import os
from pathlib import Path

from steelyard.cli.still_files import StillFiles


def names(files: StillFiles, now_s: float) -> list[str]:
    ready = list(files.look(now_s))
    for file in ready:
        files.done(file)
    return [file.path.name for file in ready]


def test_a_file_is_ready_after_five_still_seconds_and_only_once(tmp_path: Path) -> None:
    files = StillFiles(tmp_path)
    (tmp_path / "day.csv").write_text("a\n")
    assert [names(files, now) for now in (0.0, 4.9, 5.0, 60.0)] == [[], [], ["day.csv"], []]


def test_a_file_that_grows_is_waited_for_and_given_again_with_its_new_content(tmp_path: Path) -> None:
    files = StillFiles(tmp_path)
    path = tmp_path / "day.csv"
    path.write_text("a\n")
    assert names(files, 0.0) == []
    path.write_text("a\nb\n")
    assert [names(files, now) for now in (4.0, 8.9, 9.0)] == [[], [], ["day.csv"]]
    path.write_text("a\nb\nc\n")
    assert [names(files, now) for now in (10.0, 15.0)] == [[], ["day.csv"]]


def test_neither_name_nor_date_makes_a_known_content_new(tmp_path: Path) -> None:
    files = StillFiles(tmp_path)
    path = tmp_path / "day.csv"
    path.write_text("a\n")
    assert [names(files, now) for now in (0.0, 5.0)] == [[], ["day.csv"]]
    (tmp_path / "copy.csv").write_text("a\n")
    os.utime(path, ns=(10**18, 10**18))
    assert [names(files, now) for now in (6.0, 11.0, 20.0)] == [[], [], []]


def test_the_same_date_does_not_make_a_new_content_old(tmp_path: Path) -> None:
    """An exporter may keep the date, and a new content may have the same size."""
    files = StillFiles(tmp_path)
    path = tmp_path / "day.csv"
    path.write_text("a\n")
    kept = path.stat().st_mtime_ns
    assert [names(files, now) for now in (0.0, 5.0)] == [[], ["day.csv"]]
    replaced = tmp_path / ".new"
    replaced.write_text("b\n")
    os.utime(replaced, ns=(kept, kept))
    replaced.rename(path)
    assert [names(files, now) for now in (6.0, 11.0)] == [[], ["day.csv"]]


def test_a_file_that_was_not_taken_is_offered_again(tmp_path: Path) -> None:
    files = StillFiles(tmp_path)
    (tmp_path / "day.csv").write_text("a\n")
    list(files.look(0.0))
    assert len(list(files.look(5.0))) == len(list(files.look(6.0))) == 1


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    files = StillFiles(tmp_path)
    (tmp_path / ".part.csv").write_text("a\n")
    (tmp_path / "folder").mkdir()
    assert [names(files, now) for now in (0.0, 5.0)] == [[], []]
