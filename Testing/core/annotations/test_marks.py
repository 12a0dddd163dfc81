"""Points, boxes and label names in the files that users, spreadsheets and Slicer write."""

import json

import numpy as np
import pytest

from APELocalizerLib.core.annotations.marks import read_boxes, read_labels, read_points
from APELocalizerLib.core.base.errors import AnnotationError, LearningError


def write(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


def test_points_from_a_spreadsheet(tmp_path):
    text = '\ufeffnote,name,s_mm,a_mm,r_mm\nx,"carina, tip",61.9,-12.7,3.3\ny,apex,97,14,-31\n'
    points = read_points(write(tmp_path / "P.csv", text))
    np.testing.assert_allclose(points["carina, tip"], [3.3, -12.7, 61.9])
    assert list(points) == ["carina, tip", "apex"]


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("name,x,y,z\na,1,2,3\n", "lacks the column.* r_mm, a_mm, s_mm; it needs name,r_mm,a_mm,s_mm"),
        ("", "lacks the column"),
        ("name,r_mm,a_mm,s_mm\n", "holds no placed landmark"),
        ("name,r_mm,a_mm,s_mm\na,1,2\n", 'P.csv, line 2: a has no number in the column s_mm, but ""'),
        ("name,r_mm,a_mm,s_mm\na,1,2,abc\n", 'no number in the column s_mm, but "abc"'),
        ("name,r_mm,a_mm,s_mm\na,1,2,nan\n", 'but "nan"'),
        ("name,r_mm,a_mm,s_mm\na,1,2,3\na,1,2,3\n", 'the landmark "a" twice'),
        ("name,r_mm,a_mm,s_mm\n,1,2,3\n", "line 2: a row names no landmark"),
    ],
)
def test_wrong_spreadsheets_are_refused(tmp_path, text, sentence):
    with pytest.raises(LearningError, match=sentence):
        read_points(write(tmp_path / "P.csv", text))


def markups(**changes) -> dict:
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [{"label": "a", "position": [1, 2, 3]}]}
    return {"markups": [{**markup, **changes}]}


@pytest.mark.parametrize(
    "system, expected", [("LPS", [-1, -2, 3]), ("RAS", [1, 2, 3]), (1, [-1, -2, 3]), (0, [1, 2, 3]), ("0", [1, 2, 3])]
)
def test_markups_coordinate_systems(tmp_path, system, expected):
    path = write(tmp_path / "P.mrk.json", json.dumps(markups(coordinateSystem=system)))
    np.testing.assert_array_equal(read_points(path)["a"], expected)


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("{", "not a Slicer markups file"),
        ("[]", "not a Slicer markups file"),
        ("{}", "not a Slicer markups file"),
        ('{"markups": 5}', "not a Slicer markups file"),
        ('{"markups": ["a"]}', "not a Slicer markups file"),
        ('{"markups": [{"controlPoints": [{"label": "a"}]}]}', "not a Slicer markups file"),
        ('{"markups": [{"controlPoints": [5]}]}', "not a Slicer markups file"),
        (json.dumps(markups(controlPoints=[{"label": "a", "position": [1, 2]}])), "not a Slicer markups file"),
        (json.dumps(markups(controlPoints=[{"label": "a", "position": [1, 2, None]}])), "not a number"),
        (json.dumps(markups(coordinateSystem="IJK")), 'coordinate system "IJK"'),
        (json.dumps(markups(controlPoints=[])), "holds no placed landmark"),
        (
            json.dumps(markups(controlPoints=[{"label": "a", "position": [1, 2, 3], "positionStatus": "undefined"}])),
            "holds no placed landmark",
        ),
        (json.dumps(markups(controlPoints=[{"label": "a", "position": [1, 2, 3]}] * 2)), 'landmark "a" twice'),
    ],
)
def test_wrong_markups_are_refused(tmp_path, content, sentence):
    with pytest.raises(LearningError, match=sentence):
        read_points(write(tmp_path / "P.mrk.json", content))


def test_absent_and_binary_files_are_refused(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\x00\x81")
    for reader, name, sentence in (
        (read_points, "absent.csv", "does not exist"),
        (read_points, "binary.csv", "cannot be read as text"),
        (read_boxes, "absent.csv", "does not exist"),
        (read_boxes, "binary.csv", "cannot be read as text"),
        (read_labels, "absent.json", "does not exist"),
        (read_labels, "binary.csv", "cannot be read as text"),
    ):
        with pytest.raises(LearningError, match=sentence):
            reader(tmp_path / name)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("name,rmin\na,1\n", "lacks the column.*rmax"),
        ("name,rmin,rmax,amin,amax,smin,smax\na,5,1,0,1,0,1\n", "box a a minimum exceeds"),
        ("name,rmin,rmax,amin,amax,smin,smax\na,0,1,0,1,0,x\n", 'column smax, but "x"'),
        ("name,rmin,rmax,amin,amax,smin,smax\na,0,1,0,1,0,1\na,0,1,0,1,0,1\n", "twice"),
    ],
)
def test_wrong_boxes_are_refused(tmp_path, text, sentence):
    with pytest.raises(LearningError, match=sentence):
        read_boxes(write(tmp_path / "B.csv", text))


def test_label_names(tmp_path):
    assert read_labels(write(tmp_path / "L.json", '{"1": "spleen", "12": "aorta"}')) == {1: "spleen", 12: "aorta"}
    for text in ("[]", "{", '{"one": "spleen"}', '{"1.5": "spleen"}', "5"):
        with pytest.raises(LearningError, match='such as {"1": "spleen"}'):
            read_labels(write(tmp_path / "L.json", text))


POINTS = {"carina": [3.5, -12.25, 61.0], "lung apex": [-31.0, 14.0, 97.5]}


@pytest.mark.parametrize(
    "text",
    [
        "name, r_mm, a_mm, s_mm\ncarina ,3.5,-12.25,61\n lung apex,-31,14,97.5\n",
        "Name,R_mm,A_MM,s_mm\r\ncarina,3.5,-12.25,61\r\n,,,\r\nlung apex,-31,14,97.5\r\n,,,\r\n\r\n",
        "name;r_mm;a_mm;s_mm\ncarina;3,5;-12,25;61\nlung apex;-31;14;97,5\n;;;\n",
        "name\tr_mm\ta_mm\ts_mm\ncarina\t3.5\t-12.25\t61\nlung apex\t-31\t14\t97.5\n",
        '"name","r_mm","a_mm","s_mm"\n"carina","3.5","-12.25","61"\n"lung apex","-31","14","97.5"\n',
    ],
    ids=["blanks", "Windows, capitals, empty rows", "semicolons and decimal commas", "tabs", "quoted"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_are_read_as_spreadsheets_write_them(tmp_path, text, encoding):
    (tmp_path / "P.csv").write_bytes(text.encode(encoding))
    points = read_points(tmp_path / "P.csv")
    assert {name: list(point) for name, point in points.items()} == POINTS


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,r_mm,a_mm,s_mm\na,3,5,1,2\n", "line 2: the row has more cells than the header"),
        ('name,r_mm,a_mm,s_mm\n"a,1,2,3\nb,1,2,3\n', "quotation mark not closed"),
        ("name,r_mm,a_mm,s_mm,r_mm\na,1,2,3,4\n", "column r_mm twice"),
        ("name,r_mm,a_mm,s_mm\na,1e999,2,3\n", 'but "1e999"'),
        ("name,r_mm,a_mm,s_mm\na,1_0,2,3\n", 'but "1_0"'),
        ("name,r_mm,a_mm,s_mm\ncarina,1,2,3\ncarina ,1,2,3\n", '"carina" twice'),
    ],
)
def test_tables_that_could_be_misread_are_refused_with_the_line(tmp_path, text, sentence):
    with pytest.raises(AnnotationError, match=sentence):
        read_points(write(tmp_path / "P.csv", text))


FCSV = """# Markups fiducial file version = 4.10
# CoordinateSystem = {}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
vtkMRMLMarkupsFiducialNode_0,{},{},-103,0,0,0,1,1,1,0,carina,,
"""


@pytest.mark.parametrize(("system", "x", "y"), [("0", 2, 14), ("RAS", 2, 14), ("1", -2, -14), ("LPS", -2, -14)])
def test_point_lists_of_older_slicers_are_read_in_their_own_coordinate_system(tmp_path, system, x, y):
    points = read_points(write(tmp_path / "P.fcsv", FCSV.format(system, x, y)))
    assert {name: list(point) for name, point in points.items()} == {"carina": [2, 14, -103]}


def test_a_point_list_without_a_coordinate_system_is_refused(tmp_path):
    text = "\n".join(FCSV.format(0, 1, 2).splitlines()[2:])
    with pytest.raises(AnnotationError, match="RAS or LPS.*save it as .mrk.json"):
        read_points(write(tmp_path / "P.fcsv", text))


@pytest.mark.parametrize(("units", "scale"), [("mm", 1), ("um", 0.001), (["cm", "cm", "cm"], 10), ("m", 1000)])
def test_units_of_markups_are_heeded(tmp_path, units, scale):
    path = write(tmp_path / "P.mrk.json", json.dumps(markups(coordinateUnits=units)))
    np.testing.assert_allclose(read_points(path)["a"], [-1 * scale, -2 * scale, 3 * scale])


def test_unknown_units_are_refused(tmp_path):
    path = write(tmp_path / "P.mrk.json", json.dumps(markups(coordinateUnits=["inch", "mm", "mm"])))
    with pytest.raises(AnnotationError, match="inch"):
        read_points(path)


def roi(**changes) -> dict:
    markup = {
        "type": "ROI", "coordinateSystem": "LPS", "roiType": "Box", "center": [10, 20, 30], "size": [2, 4, 6],
        "orientation": [-1, 0, 0, 0, -1, 0, 0, 0, 1], "controlPoints": [{"label": "spleen", "position": [10, 20, 30]}],
    }  # fmt: skip
    return {"markups": [{**markup, **changes}]}


def test_boxes_are_read_from_rois_of_slicer(tmp_path):
    box = read_boxes(write(tmp_path / "B.mrk.json", json.dumps(roi())))["spleen"]
    assert box.minimum == (-11, -22, 27) and box.maximum == (-9, -18, 33)
    turned = roi(orientation=[0, 1, 0, -1, 0, 0, 0, 0, 1])
    box = read_boxes(write(tmp_path / "B.mrk.json", json.dumps(turned)))["spleen"]
    assert box.minimum == (-12, -21, 27) and box.maximum == (-8, -19, 33)
    with pytest.raises(AnnotationError, match="rotated"):
        oblique = roi(orientation=[0.8, 0.6, 0, -0.6, 0.8, 0, 0, 0, 1])
        read_boxes(write(tmp_path / "B.mrk.json", json.dumps(oblique)))


def test_labels_are_read_with_a_byte_order_mark_and_without_blanks(tmp_path):
    (tmp_path / "L.json").write_text('\ufeff{"1": " spleen "}', encoding="utf-8")
    assert read_labels(tmp_path / "L.json") == {1: "spleen"}


@pytest.mark.parametrize(
    "text",
    [
        '{"1": "spleen", "1": "liver"}',
        '{"1": "spleen", "01": "liver"}',
        '{"1": ["spleen"]}',
        '{"1": " "}',
        '{"-1": "spleen"}',
        '{"4000000000": "spleen"}',
        "[" * 5000,
        '{"' + "1" * 5000 + '": "spleen"}',
    ],
)
def test_labels_that_could_be_misread_are_refused(tmp_path, text):
    with pytest.raises(AnnotationError, match="L.json"):
        read_labels(write(tmp_path / "L.json", text))
