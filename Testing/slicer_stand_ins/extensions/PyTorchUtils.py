"""The module of Slicer's PyTorch extension."""


class PyTorchUtilsLogic:
    @staticmethod
    def torchInstalled() -> bool:
        return True

    @property
    def torch(self):
        import torch

        return torch
