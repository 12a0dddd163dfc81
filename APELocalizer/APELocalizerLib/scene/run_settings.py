"""How a scan is embedded, and what tells whether it is still the same scan."""

from collections.abc import Hashable
from dataclasses import dataclass

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.scene.nodes import VolumeNode


@dataclass(frozen=True)
class RunSettings:
    """How scans are embedded: spacing preset, computing device, and model (registry id or file)."""

    spacing: str = "standard"
    device: str = "auto"
    model: str = "default"

    def engine(self, engine: Engine) -> Engine:
        """The engine with this model and device."""
        return engine.using(model=self.model, device=self.device)


DEFAULT_SETTINGS = RunSettings()


def scan_key(volume_node: VolumeNode) -> Hashable:
    """What changes when the scan does: its voxels, its place in the world (with parent transforms), or the node."""
    from APELocalizerLib.scene.volumes import ijk_to_world

    return volume_node.GetID(), volume_node.GetImageData().GetMTime(), ijk_to_world(volume_node).tobytes()
