"""Damaged libraries, maps and models end in a sentence, too; those that are accepted can be used."""

import base64
import copy
import json
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st

from APELocalizerLib.core.base.errors import APELocalizerError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.map_files import HEADER_KEY, load_map, save_map
from APELocalizerLib.core.library.files import load_library, to_json
from APELocalizerLib.core.library.learning import learn_box
from APELocalizerLib.core.localization.localize import localize
from APELocalizerLib.core.model.model_files import read_model, save_model
from made_up.fuzz import FUZZ, tried
from made_up.maps import Patient, library_of, smooth_map
from made_up.models import tiny_model

ODD = st.one_of(
    st.none(), st.booleans(), st.text(max_size=4), st.floats(),
    st.sampled_from([0, -1, 1, 3, 2**31, 2**63, 10**400, 1e9, 1e-9, 1e308, "nan", [], {}, [0, 0, 0], [[1]], "built-in",
                     [1, 1, 1], [2**62, 2, 1], [1.0] * 7, "x" * 300]),
)  # fmt: skip


def places(content, path=()):
    """Paths to every value in a JSON structure."""
    yield path
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


def damaged(data, content):
    """A copy in which one or two values are others, gone or nested deeply."""
    content = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 2))):
        *path, last = data.draw(st.sampled_from([place for place in places(content) if place]))
        inner = content
        for key in path:
            inner = inner[key]
        if data.draw(st.integers(0, 5)):
            inner[last] = data.draw(ODD)
        elif isinstance(inner, dict):
            del inner[last]
        else:
            inner.append(inner[last])
    return content


def as_text(data, content) -> str:
    """JSON text, now and then nested too deeply or cut short."""
    text = json.dumps(content)
    form = data.draw(st.integers(0, 19))
    if form == 0:
        return "[" * 3000 + text + "]" * 3000
    return text[: data.draw(st.integers(0, len(text)))] if form == 1 else text


@pytest.fixture(scope="module")
def patient_map():
    return smooth_map(Patient())


class Content(dict):
    """What a file holds, without filling the screen when a test fails."""

    def __repr__(self) -> str:
        return f"{len(self)} entries"


@pytest.fixture(scope="module")
def library(patient_map) -> Content:
    learned = learn_box(library_of((Patient(), patient_map)), patient_map, "liver", Box((-50, -30, -60), (40, 35, 70)))
    return Content(json.loads(to_json(learned)))


@FUZZ
@given(data=st.data())
def test_libraries(library, patient_map, tmp_path, data):
    path = tmp_path / "library.json"
    path.write_text(as_text(data, damaged(data, library)), encoding="utf-8", errors="surrogatepass")
    read = tried(load_library, path)
    if read is not None:
        try:
            localize(patient_map, read)
        except APELocalizerError:
            pass


@FUZZ
@given(data=st.data())
def test_maps_inside_libraries(library, tmp_path, data):
    content = copy.deepcopy(library)
    payload = zlib.decompress(base64.b64decode(content["supports"][0]["map"]))
    head, _, body = payload.partition(b"\n")
    head = as_text(data, damaged(data, json.loads(head))).encode("utf-8", "surrogatepass")
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(body))))
    packed = zlib.compress(head + b"\n" + body[:cut], 1)
    content["supports"][0]["map"] = base64.b64encode(packed).decode()
    path = tmp_path / "library.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    tried(load_library, path)


@FUZZ
@given(data=st.data())
def test_maps(patient_map, tmp_path, data):
    path = tmp_path / "map.nrrd"
    save_map(patient_map, path)
    image = sitk.ReadImage(str(path))
    header = damaged(data, json.loads(image.GetMetaData(HEADER_KEY)))
    image.SetMetaData(HEADER_KEY, as_text(data, header).encode("ascii", "replace").decode())
    sitk.WriteImage(image, str(path))
    if data.draw(st.booleans()):
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, 1_000_000)) % len(content)
        content[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
        path.write_bytes(content)
    read = tried(load_map, path)
    if read is not None:
        assert np.isfinite(read.values).all() and np.isfinite(read.grid_to_ras).all()
        read.embedding_at(np.zeros((1, 3)))


@pytest.fixture(scope="module")
def model_content(tmp_path_factory) -> Content:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_model(tiny_model(), path)
    return Content(torch.load(path, weights_only=True))


@FUZZ
@given(data=st.data())
def test_models(model_content, tmp_path, data):
    path = tmp_path / "model.pt"
    config = as_text(data, damaged(data, json.loads(model_content["config"])))
    changed = {**model_content, "config": config.encode("utf-8", "replace").decode()}
    if data.draw(st.integers(0, 3)) == 0:
        changed[data.draw(st.sampled_from(sorted(changed)))] = data.draw(ODD)
    torch.save(changed, path)
    read = tried(read_model, path)
    if read is not None:
        assert min(read.scale) > 0 and np.isfinite([*read.scale, *read.offset, read.round_trip_threshold_mm]).all()
        read.build_network()
