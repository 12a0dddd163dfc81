"""Draws the extension's icon: a body whose color at each place is its three anatomical coordinates.

Red grows to the patient's left, green to the front, blue to the head; a ring marks one landmark, as after one click.
Run it with Pillow installed: `python Resources/draw_icon.py`.
"""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 128
OVERSAMPLING = 8
ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = (ROOT / "APE.png", ROOT / "APELocalizer" / "Resources" / "Icons" / "APELocalizer.png")

# Half width and half depth of the trunk from hip to neck, and of the arms, by height; the picture spans -1..1.
TRUNK = np.array([
    (-1.00, 0.46, 0.31), (-0.80, 0.47, 0.32), (-0.60, 0.43, 0.31), (-0.38, 0.38, 0.29), (-0.10, 0.41, 0.31),
    (0.12, 0.46, 0.32), (0.26, 0.45, 0.28), (0.36, 0.36, 0.20), (0.43, 0.19, 0.15),
    (0.50, 0.135, 0.13), (0.80, 0.12, 0.12),
])  # fmt: skip
SMOOTHING = 0.05
HEAD_CENTER, HEAD_RADII = 0.70, (0.205, 0.255, 0.24)
ARM_TOP, ARM_BOTTOM, ARM_RADIUS = (0.50, 0.22), (0.64, -0.72), 0.125

RING_CENTER, RING_RADIUS, RING_WIDTH = (-0.13, 0.08), 0.12, 0.045


def body_depth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance of the front surface from the middle plane at each picture position; 0 outside the body."""
    levels = np.linspace(-1.5, 1.5, 1201)
    kernel = np.exp(-0.5 * (np.arange(-120, 121) * (levels[1] - levels[0]) / SMOOTHING) ** 2)
    width, depth = (
        np.interp(
            y, levels, np.convolve(np.interp(levels, TRUNK[:, 0], TRUNK[:, column]), kernel / kernel.sum(), "same")
        )
        for column in (1, 2)
    )
    trunk = np.where(y < TRUNK[-1, 0], depth * _dome(x / width), 0)
    head = HEAD_RADII[2] * _dome(np.hypot(x / HEAD_RADII[0], (y - HEAD_CENTER) / HEAD_RADII[1]))
    return np.maximum.reduce([trunk, head, _arm(np.abs(x), y)])


def _dome(radius: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(1 - radius**2, 0, None))


def _arm(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    top, bottom = np.array(ARM_TOP), np.array(ARM_BOTTOM)
    along = np.clip(
        ((x - top[0]) * (bottom - top)[0] + (y - top[1]) * (bottom - top)[1]) / ((bottom - top) ** 2).sum(), 0, 1
    )
    radius = ARM_RADIUS * (1.15 - 0.45 * along)
    across = np.hypot(x - top[0] - along * (bottom - top)[0], y - top[1] - along * (bottom - top)[1])
    return radius * _dome(across / radius)


def picture() -> np.ndarray:
    """RGBA picture, 0..1, at the drawing resolution."""
    pixels = SIZE * OVERSAMPLING
    axis = (np.arange(pixels) + 0.5) / pixels * 2 - 1
    x, y = np.meshgrid(axis, -axis)
    depth = body_depth(x, y)
    inside = (depth > 0.012) & (y > -0.985)
    slope = np.gradient(depth, axis[1] - axis[0])
    light = np.clip(1.0 - 0.22 * slope[1] + 0.16 * slope[0], 0.45, 1.25)[..., None] ** 0.8
    color = np.stack([0.5 + 0.62 * x, 0.12 + 2.1 * depth, 0.5 + 0.5 * y], axis=-1)
    image = np.concatenate([np.clip(np.clip(color, 0.06, 1) * light, 0, 1), inside[..., None]], axis=-1)
    distance = np.hypot(x - RING_CENTER[0], y - RING_CENTER[1])
    image[np.abs(distance - RING_RADIUS) < RING_WIDTH] = (0.10, 0.10, 0.14, 1)
    image[np.abs(distance - RING_RADIUS) < RING_WIDTH / 2] = (1, 1, 1, 1)
    image[distance < RING_WIDTH] = (1, 1, 1, 1)
    return image


def main() -> None:
    """Write the icon to every place that needs it."""
    image = picture().reshape(SIZE, OVERSAMPLING, SIZE, OVERSAMPLING, 4)
    alpha = image[..., 3:].mean(axis=(1, 3))
    color = (image[..., :3] * image[..., 3:]).mean(axis=(1, 3)) / np.maximum(alpha, 1e-6)
    icon = Image.fromarray(np.round(255 * np.concatenate([color, alpha], axis=-1)).astype(np.uint8))
    for path in OUTPUTS:
        path.parent.mkdir(parents=True, exist_ok=True)
        icon.save(path, optimize=True)


if __name__ == "__main__":
    main()
