"""Writing in one step: the old file or the new one, never half of one."""

import os
import stat
import sys
import threading

import pytest

from APELocalizerLib.core.base.errors import ResultsError
from APELocalizerLib.core.base.files import check_writable, replacing, write_text


def test_the_new_content_takes_the_place_of_the_old_and_nothing_stays_beside(tmp_path):
    path = tmp_path / "new folder" / "landmarks.json"
    write_text(path, "one")
    write_text(path, "two\r\nthree")
    assert path.read_bytes() == b"two\r\nthree"
    assert os.listdir(path.parent) == ["landmarks.json"]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "landmarks.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="disk full"), replacing(path) as beside:
        beside.write_text("half")
        raise RuntimeError("disk full")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["landmarks.json"]


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz", ".gz"])
def test_the_ending_is_kept_for_writers_that_choose_the_format_by_it(tmp_path, ending):
    with replacing(tmp_path / f"map{ending}") as beside:
        assert beside.name.endswith(ending) and beside.parent == tmp_path
        beside.touch()
    assert [path.name for path in tmp_path.iterdir()] == [f"map{ending}"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")
def test_permissions_and_links_stay(tmp_path):
    private, link = tmp_path / "private.json", tmp_path / "link.json"
    private.write_text("old")
    private.chmod(0o600)
    link.symlink_to(private)
    write_text(link, "new")
    assert link.is_symlink() and private.read_text() == "new"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_a_long_name_can_be_written(tmp_path):
    path = tmp_path / f"{'x' * 240}.json"
    write_text(path, "content")
    assert path.read_text() == "content"


def test_threads_that_write_the_same_file_leave_one_of_their_contents(tmp_path):
    path, contents = tmp_path / "shared.json", [str(number) * 50_000 for number in range(6)]
    threads = [threading.Thread(target=write_text, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in contents and os.listdir(tmp_path) == ["shared.json"]


def test_a_place_where_no_file_can_be_written_is_named_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="file” is no folder, so nothing can be written there"):
        check_writable(tmp_path / "file" / "new" / "map.nrrd")
    with pytest.raises(ResultsError, match="is a folder. Name a file"):
        check_writable(tmp_path)
    check_writable(tmp_path / "new" / "map.nrrd")
    check_writable(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ResultsError, match="no permission to write into"):
        check_writable(tmp_path / "map.nrrd")
