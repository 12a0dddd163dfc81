"""The contact sheet shows each landmark in the middle of its own small slices, and says which are missing."""

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.scene.landmark_sheet import CELL_GAP, FIELD_MM, GAP, HEADER, TILE, render_landmark_sheet
from APELocalizerLib.scene.pictures import MissingRenderingLibrary, check_rendering
from APELocalizerLib.scene.results import show_localization
from made_up.nodes import contents, raises

CELL = (HEADER + TILE, 2 * TILE + GAP)


@pytest.fixture(scope="module", autouse=True)
def drawing_is_possible():
    try:
        check_rendering()
    except MissingRenderingLibrary as error:
        pytest.skip(str(error))


def read_cells(path, count: int, width: int = CELL[1]) -> list[np.ndarray]:
    """The cells of a sheet with one row, as int (rows, columns, 3)."""
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(int)[48:]
    lefts = [CELL_GAP + number * (width + CELL_GAP) for number in range(count)]
    return [picture[: CELL[0], left : left + width] for left in lefts]


def colored(picture) -> float:
    """Share of pixels that are not gray."""
    return float((np.ptp(picture, axis=2) > 60).mean())


def test_each_landmark_is_in_the_middle_of_its_slices(a_scene, a_volume_node, a_localization, tmp_path):
    nodes = show_localization(a_volume_node, a_localization)
    before = contents(a_scene)
    render_landmark_sheet(a_volume_node, nodes.points_node, tmp_path / "sheet.png")
    assert contents(a_scene) == before
    _, liver, bladder = read_cells(tmp_path / "sheet.png", 3)
    middle, pixel = HEADER + TILE // 2, TILE / FIELD_MM
    at_liver = liver[middle - 3 : middle + 3, TILE // 2 - 3 : TILE // 2 + 3].mean()
    lung_above = liver[middle - round(62 * pixel) : middle - round(58 * pixel), TILE + GAP + TILE // 2 + 12].mean()
    assert at_liver > 120 and lung_above < 20, "coronal slice: the lung is above the middle of the liver"
    assert colored(liver[HEADER:]) > 0.002, "crosshair"
    assert colored(bladder[HEADER:]) == 0 and np.ptp(bladder[HEADER:]) == 0, "not found: no picture"
    assert colored(bladder[:HEADER]) > 0.005, "but its name"


def test_clicks_on_the_support_stand_before_what_was_found(a_volume_node, a_localization, tmp_path):
    nodes = show_localization(a_volume_node, a_localization)
    pair = (a_volume_node, nodes.points_node)
    render_landmark_sheet(*pair, tmp_path / "sheet.png", *pair, columns=3)
    wide = 2 * CELL[1] + 3 * GAP
    cell = read_cells(tmp_path / "sheet.png", 3, wide)[1][HEADER:]
    click, result = cell[:, : CELL[1]], cell[:, -CELL[1] :]
    same = np.ptp(click, axis=2) + np.ptp(result, axis=2) < 30
    np.testing.assert_array_equal(click[same], result[same])
    assert (click[..., 2] - click[..., 0] > 60).any() and (result[..., 0] - result[..., 2] > 60).any()


def test_nothing_to_draw_is_said(a_scene, a_volume_node, tmp_path):
    with raises("no landmarks to draw"):
        render_landmark_sheet(a_volume_node, None, tmp_path / "sheet.png")
