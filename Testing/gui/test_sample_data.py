"""The sample CTs in Slicer's Sample Data module."""

import hashlib
import sys
from types import SimpleNamespace

import pytest

import APELocalizer
from APELocalizerLib.scene import sample_data
from APELocalizerLib.scene.sample_data import SUPPORT, TARGET, register_sample_data, sample_file


@pytest.fixture
def registered(monkeypatch):
    """What is registered, by its name; in the real module's words."""
    sources = {}
    logic = SimpleNamespace(
        registerCustomSampleDataSource=lambda **source: sources.update({source["sampleName"]: source})
    )
    monkeypatch.setitem(sys.modules, "SampleData", SimpleNamespace(SampleDataLogic=logic))
    return sources


@pytest.mark.parametrize("sample", [SUPPORT, TARGET], ids=lambda sample: sample.title)
def test_the_checksum_is_that_of_the_file(sample):
    assert hashlib.sha256(sample_file(sample.file_name).read_bytes()).hexdigest() == sample.sha256


def test_they_are_offered_when_slicer_has_started(registered, monkeypatch):
    started = {}
    monkeypatch.setattr(APELocalizer.slicer, "app", SimpleNamespace(connect=started.__setitem__), raising=False)
    APELocalizer.APELocalizer(SimpleNamespace())
    assert registered == {}, "nothing before Slicer has started"
    started["startupCompleted()"]()
    assert sorted(registered) == ["APESupportCT", "APETargetCT"]


def test_a_copy_on_this_computer_is_loaded_without_a_network(registered, scene):
    register_sample_data()
    source = registered["APESupportCT"]
    (node,) = source["customDownloader"](source)
    assert node.GetName() == "support_ct" and node.GetImageData().GetDimensions() != (0, 0, 0)


def test_without_a_copy_the_download_is_checked(registered, monkeypatch):
    monkeypatch.setattr(sample_data, "sample_file", lambda name: None)
    register_sample_data()
    source = registered["APETargetCT"]
    assert source["customDownloader"] is None and source["checksums"] == f"SHA256:{TARGET.sha256}"
    assert source["uris"].startswith("https://") and source["uris"].endswith("/Resources/SampleData/target_ct.nii.gz")
