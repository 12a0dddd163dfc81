"""Choosing the computing device."""

import pytest
import torch

from APELocalizerLib.core.base import device as device_module
from APELocalizerLib.core.base.device import describe_devices, resolve_device
from APELocalizerLib.core.base.errors import DeviceError


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (6 * 2**30, 8 * 2**30))


def test_auto_takes_the_cpu_where_nothing_else_is(no_gpu):
    assert resolve_device("auto") == torch.device("cpu")
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_takes_the_gpu_where_there_is_one(two_gpus):
    assert resolve_device("auto") == torch.device("cuda:0")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_takes_mps_on_an_apple_computer(monkeypatch, no_gpu):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("mps")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_missing_gpu_is_named(no_gpu, name):
    with pytest.raises(DeviceError, match=f'"{name}" was asked for, but PyTorch finds no CUDA GPU. Choose'):
        resolve_device(name)


def test_a_gpu_number_that_does_not_exist_is_named_with_those_that_do(two_gpus):
    with pytest.raises(DeviceError, match='"cuda:2" does not exist.*cuda:0, cuda:1, cpu'):
        resolve_device("cuda:2")


def test_missing_mps_is_named(no_gpu):
    with pytest.raises(DeviceError, match="not an Apple computer"):
        resolve_device("mps")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "xpu", "cuda:-1"])
def test_unknown_names_are_refused_with_those_that_are_known(no_gpu, name):
    with pytest.raises(DeviceError, match='"auto".*"cpu"'):
        resolve_device(name)


def test_devices_are_described_best_first(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    described = describe_devices()
    assert [name for name, _ in described] == ["auto", "cuda:0", "cuda:1", "cpu"]
    assert described[0][1] == "Automatic (Card 0, 6.0 of 8.0 GB free)"
    for name, _ in described:
        resolve_device(name)


def test_the_cpu_is_always_there(no_gpu):
    assert [name for name, _ in describe_devices()] == ["auto", "cpu"]
    assert device_module.os.cpu_count() is None or str(device_module.os.cpu_count()) in describe_devices()[1][1]
