"""The learning rate over the steps."""

import pytest

from APELocalizerLib.training.run.schedule import learning_rate


def test_schedules(config):
    config = config.changed(max_steps=100, warm_up_steps=10, learning_rate=1.0)
    cosine = [learning_rate(config.optimization, step, step / 100) for step in range(101)]
    assert cosine[0] == pytest.approx(0.1) and cosine[-1] == pytest.approx(0.01)
    assert cosine[50] == pytest.approx(0.505) and max(cosine) < 1.0
    constant = [
        learning_rate(config.changed(schedule="constant").optimization, step, step / 100) for step in range(101)
    ]
    assert constant[4] == pytest.approx(0.5) and set(constant[9:]) == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "constant", "one_cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 40])
def test_a_run_shorter_than_its_warm_up_reaches_the_full_rate(config, schedule, steps):
    config = config.changed(max_steps=steps, warm_up_steps=1000, learning_rate=1.0, schedule=schedule)
    rates = [learning_rate(config.optimization, step, step / steps) for step in range(steps)]
    assert max(rates) > 0.5 and (schedule == "constant" or steps < 3 or rates[-1] < max(rates))
