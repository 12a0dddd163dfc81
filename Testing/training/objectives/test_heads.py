"""How the network's output becomes an embedding in millimeters."""

import pytest
import torch

from APELocalizerLib.training.objectives.heads import NormalizedHead, ScaledHead


def test_a_normalized_embedding_has_no_mean_and_unit_variance():
    head, output = NormalizedHead(), torch.rand(4, 3, 5, 5, 5, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.2
    embedding = head(output)
    torch.testing.assert_close(embedding.mean(dim=(0, 2, 3, 4)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(embedding.var(dim=(0, 2, 3, 4), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    head.update(80.0, head.seen())
    scale, offset = head.millimeters()
    whole = output * scale[:, None, None, None] + offset[:, None, None, None]
    torch.testing.assert_close(whole, 80.0 * embedding, atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(head.eval()(output), embedding, atol=1e-3, rtol=1e-3)


def test_running_averages_settle():
    head = ScaledHead()
    for unit in (80.0, *[90.0] * 300):
        head.update(unit, [])
    assert head.unit_mm.item() == pytest.approx(90.0, abs=0.1)
