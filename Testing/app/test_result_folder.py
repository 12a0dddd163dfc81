"""Result folders: what a user put there is safe, and results are complete or as they were before."""

import json
import os
import shutil

import pytest

from APELocalizerLib.app import result_folder, result_swap
from APELocalizerLib.app.result_folder import reserved, staged
from APELocalizerLib.core.base.errors import ResultsError
from APELocalizerLib.core.base.locks import locked


def write_results(folder, **files) -> None:
    """A run that writes these files: results_csv="text" is results.csv, rois__a_mrk_json is rois/a.mrk.json."""
    with reserved(folder), staged(folder, {"spacing": "fast"}) as staging:
        for name, text in files.items():
            path = staging / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def content(folder) -> dict[str, str]:
    """Text of every file in a folder but the record."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.json"]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture(params=["beside", "within"])
def place(request, out, monkeypatch):
    """Both ways of replacing results: by a rename, and file by file where the user stands in the folder."""
    if request.param == "within":
        out.mkdir()
        monkeypatch.chdir(out)
    return out


# What is a user's stays -----------------------------------------------------------------------------------------------


def test_a_folder_with_the_users_own_files_is_refused_and_they_are_named(place):
    """Case 23: a table of boxes that the user wrote, and boxes drawn by hand."""
    own = {"boxes.csv": "name,rmin", "results.csv": "mine", "rois/hand_drawn.mrk.json": "{}"}
    for name, text in own.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    with pytest.raises(ResultsError, match="boxes.csv, results.csv, rois/hand_drawn.mrk.json.*Nothing was changed"):
        write_results(place, results_csv="new")
    assert content(place) == own


def test_results_that_were_changed_by_hand_are_the_users(place):
    write_results(place, results_csv="first", rois__a_csv="a")
    (place / "results.csv").write_text("first, with a remark")
    with pytest.raises(ResultsError, match="changed since: results.csv. Nothing was changed"):
        write_results(place, results_csv="second")
    assert content(place) == {"results.csv": "first, with a remark", "rois/a.csv": "a"}


def test_results_whose_record_holds_no_digests_are_replaced(place):
    """As versions before 0.9 wrote them."""
    write_results(place, results_csv="first")
    record = json.loads((place / "run.json").read_text())
    del record["sha256"]
    (place / "run.json").write_text(json.dumps(record))
    write_results(place, results_csv="second")
    assert content(place) == {"results.csv": "second"}


def test_results_come_into_a_new_or_an_empty_folder(place):
    write_results(place, results_csv="new", rois__a_csv="a")
    assert content(place) == {"results.csv": "new", "rois/a.csv": "a"}
    record = json.loads((place / "run.json").read_text())
    assert record["files"] == ["results.csv", "rois/a.csv"] and record["spacing"] == "fast"


def test_earlier_results_are_replaced_as_a_whole_and_other_files_stay(place):
    write_results(place, results_csv="old", scene_mrb="old", rois__gone_csv="old")
    (place / "notes of the user.txt").write_text("mine")
    (place / "my views").mkdir()
    (place / "my views" / "axial.png").write_text("mine")
    (place / "empty").mkdir()
    write_results(place, results_csv="new")
    assert content(place) == {"results.csv": "new", "notes of the user.txt": "mine", "my views/axial.png": "mine"}
    assert sorted(item.name for item in place.iterdir()) == [
        *("empty", "my views", "notes of the user.txt", "results.csv", "run.json"),
    ]


def test_a_users_file_with_the_name_of_a_result_is_never_overwritten(place):
    write_results(place, results_csv="old")
    (place / "scene.mrb").write_text("mine")
    with pytest.raises(ResultsError, match="scene.mrb"):
        write_results(place, results_csv="new", scene_mrb="new")
    assert content(place) == {"results.csv": "old", "scene.mrb": "mine"}


def test_results_of_earlier_versions_are_known_and_replaced(out):
    (out / "rois").mkdir(parents=True)
    earlier = {name: sign.decode() for name, sign in result_folder.EARLIER.items()}
    for name, text in {**earlier, "rois/liver.mrk.json": "{}", "letter.txt": "mine"}.items():
        (out / name).write_text(text)
    write_results(out, results_csv="new")
    assert content(out) == {"results.csv": "new", "letter.txt": "mine"}


def test_a_link_to_a_folder_stays_a_link(out, tmp_path):
    (tmp_path / "disk").mkdir()
    out.symlink_to(tmp_path / "disk")
    for text in ("old", "new"):
        write_results(out, results_csv=text)
    assert out.is_symlink() and content(tmp_path / "disk") == {"results.csv": "new"}


@pytest.mark.parametrize("name", ["blocked", "blocked/out", "x" * 230])
def test_a_place_that_cannot_be_a_folder_is_refused_and_nothing_is_made(tmp_path, name):
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(ResultsError, match="is no folder|too long"), reserved(tmp_path / name):
        pytest.fail("nothing was to be computed")
    assert [item.name for item in tmp_path.iterdir()] == ["blocked"]


# All or nothing -------------------------------------------------------------------------------------------------------


def test_an_error_while_writing_leaves_everything_as_it_was(place):
    write_results(place, results_csv="old")
    with pytest.raises(ZeroDivisionError), reserved(place), staged(place) as staging:
        (staging / "results.csv").write_text("new")
        raise ZeroDivisionError
    assert content(place) == {"results.csv": "old"} and not [n for n in os.listdir(place.parent) if n.startswith(".")]


def test_an_error_leaves_no_new_folders(tmp_path):
    with pytest.raises(ZeroDivisionError), reserved(tmp_path / "a" / "b" / "out"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", [1, 2])
def test_old_results_survive_where_they_cannot_be_replaced(place, monkeypatch, failing):
    """As on Windows, where a table that is open in another program can be neither moved nor removed."""
    write_results(place, boxes_csv="old", results_csv="old")
    moves = []

    def move(source, target, real=os.replace):
        moves.append(source)
        if len(moves) == failing:
            raise PermissionError(13, "used by another program", str(source))
        real(source, target)

    with monkeypatch.context() as patch, pytest.raises(ResultsError, match="as they were"):
        patch.setattr(result_swap.os, "replace", move)
        patch.setattr(result_swap.os, "rename", move)
        write_results(place, results_csv="new")
    assert content(place) == {"boxes.csv": "old", "results.csv": "old"}
    assert result_folder.written_by_us(place) == {"run.json", "boxes.csv", "results.csv"}


@pytest.mark.parametrize("moves_done", range(7))
def test_a_program_killed_at_any_moment_leaves_old_or_new_results_to_the_next(place, monkeypatch, moves_done):
    """The next run finds either all of the old results or all of the new ones, and no hidden folder stays."""

    class Killed(BaseException):
        """Nothing catches it, as nothing catches a kill."""

    write_results(place, boxes_csv="old", results_csv="old")
    (place / "notes.txt").write_text("mine")
    done = []

    def move(source, target, real=os.replace):
        if len(done) == moves_done:
            raise Killed
        done.append(source)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(result_swap.os, "replace", move)
        patch.setattr(result_swap.os, "rename", move)
        patch.setattr(shutil, "rmtree", lambda *_arguments, **_keywords: None)
        try:
            write_results(place, results_csv="new")
        except Killed:
            pass
    with reserved(place):
        pass
    old, new = {"boxes.csv": "old", "results.csv": "old"}, {"results.csv": "new"}
    assert content(place) in ({**old, "notes.txt": "mine"}, {**new, "notes.txt": "mine"})
    hidden = [name for folder in (place, place.parent) for name in os.listdir(folder) if name.startswith(".")]
    assert hidden == []


def test_what_a_killed_run_left_of_another_scan_is_swept_too(tmp_path):
    half = tmp_path / ".first.apelocalizer-0123abcd.new"
    half.mkdir()
    (half / "map.nrrd").write_text("half")
    users = tmp_path / ".first-backup"
    users.mkdir()
    write_results(tmp_path / "last", results_csv="new")
    assert not half.exists() and users.exists()


# Two at once ----------------------------------------------------------------------------------------------------------


def test_two_programs_do_not_write_into_one_folder(out, monkeypatch):
    monkeypatch.setattr(result_folder, "WAIT_S", 0.0)
    with locked(out), pytest.raises(ResultsError, match="Another program is writing"), reserved(out):
        pytest.fail("the folder was to be refused")
    write_results(out, results_csv="new")
    assert content(out) == {"results.csv": "new"}
