"""The benchmark's own logic: what counts as met, what the tables say, what it compares with. No timing is asserted."""

import csv
import io
import time

import numpy as np
import pytest

from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.prepare import prepare
from benchmarks import command_line, growth, machine, published, report, scans, timing
from benchmarks.table import Goal, Row, as_csv, markdown, not_measured, quantity
from benchmarks.timing import Times
from benchmarks.workbench import Workbench, body_queries

TINY = NetworkConfig(channels=(16, 24), depths=((1, 1), 1), layer_scale_init=0.5)


# Goals and rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "reference", "met", "missed"),
    [
        (Goal("faster", 10), 20.0, 2.0, 2.1),
        (Goal("at_most", 1.5, "s"), None, 1.5, 1.6),
        (Goal("at_least", 3.0), None, 3.0, 2.9),
        (Goal("within", 3), 2.0, 6.0, 6.1),
        (Goal("share", 0.75), 200.0, 150.0, 149.0),
    ],
)
def test_a_goal_is_met_up_to_its_bound_and_missed_beyond(goal, reference, met, missed):
    assert Row("1", "it", goal, reference_value=reference, ours=met).verdict == "yes"
    assert Row("1", "it", goal, reference_value=reference, ours=missed).verdict == "no"


def test_the_ratio_says_how_many_times_better_ours_is():
    assert Row("1", "time", reference_value=6.0, ours=2.0).ratio == 3.0
    assert Row("1", "speed", reference_value=6.0, ours=2.0, more_is_better=True).ratio == pytest.approx(1 / 3)
    assert Row("1", "alone", ours=2.0).ratio is None


def test_a_row_without_a_value_must_say_why_and_meets_nothing():
    with pytest.raises(ValueError, match="why"):
        Row("4", "on the GPU", Goal("at_most", 0.1, "s"))
    (row,) = not_measured("4", [("on the GPU", Goal("at_most", 0.1, "s"))], "no GPU on this machine")
    assert row.verdict == "not measured" and row.met is None and "no GPU on this machine" in row.cells()


def test_a_comparison_without_a_goal_is_neither_met_nor_missed():
    assert Row("", "beside", reference_value=1.0, ours=2.0).verdict == ""


def test_times_are_reported_by_their_median_with_the_number_of_repeats():
    row = Row.of_times("1", "it", None, "other", {"reference": Times((9.0,)), "ours": Times((1.0, 8.0, 3.0))})
    assert row.ours == 3.0 and row.ratio == 3.0 and "3 times" in row.remark


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.0123, "s", "12.3 ms"), (1.234, "s", "1.23 s"), (173.4, "GFLOP/s", "173 GFLOP/s"), (2e-7, "", "2.0e-07")],
)
def test_quantities_are_short(value, unit, text):
    assert quantity(value, unit) == text


ROWS = [
    Row("1", "a | b", Goal("faster", 10), "other", 20.0, 1.5, remark="ours, once"),
    Row("2", "missed", Goal("at_most", 1.0, "s"), ours=2.0, profile=lambda: "all in one function"),
    Row("4", "card", Goal("at_most", 0.1, "s"), remark="no GPU on this machine"),
]


def test_the_markdown_table_has_one_line_per_row_and_the_same_columns_in_each():
    header, rule, *lines = markdown(ROWS).splitlines()
    assert len(lines) == 3
    assert {line.replace("\\|", "").count("|") for line in (header, rule, *lines)} == {10}
    assert "| ≥ 10 times faster | other | 20 s | 1.5 s | 13 | yes |" in lines[0]


def test_the_csv_holds_unrounded_numbers_and_the_reason():
    rows = list(csv.DictReader(io.StringIO(as_csv(ROWS))))
    assert float(rows[0]["ratio"]) == pytest.approx(20 / 1.5, rel=1e-5) and rows[0]["what"] == "a | b"
    assert rows[2]["ours"] == "" and rows[2]["met"] == "not measured" and rows[2]["remark"] == "no GPU on this machine"


def test_the_report_names_the_machine_counts_the_goals_and_explains_what_is_missed(tmp_path):
    profiles = {}
    assert (
        list(command_line.measured("1", lambda bench: iter(ROWS), Workbench(tmp_path, tmp_path), profiles, [])) == ROWS
    )
    report.write(tmp_path, report.report(ROWS, ["Processor: X"], ["Remark."], profiles), ROWS)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "- Processor: X" in text and "Of 3 targets 1 are met, 1 are missed, and 1 were not measured." in text
    assert list(profiles) == ["Goal 2: missed"] and "all in one function" in text
    assert (tmp_path / "report.csv").is_file()


# Measuring -----------------------------------------------------------------------------------------------------------


def test_repeats_alternate_after_a_warm_up():
    calls = []
    works = {name: lambda name=name: calls.append(name) for name in ("reference", "ours")}
    times = timing.alternating(works, repeats=3)
    assert calls == ["reference", "ours", *("reference", "ours"), *("ours", "reference"), *("reference", "ours")]
    assert [len(each.seconds) for each in times.values()] == [3, 3]


def test_what_takes_long_is_measured_at_least_once_and_not_again():
    assert len(timing.repeated(lambda: time.sleep(0.01), repeats=5, warm_up=False, limit_s=0.001).seconds) == 1


def test_what_grows_too_fast_is_foreseen():
    assert growth.expected({}, 10) == 0.0
    assert growth.expected({10: 1.0}, 100) == pytest.approx(10.0)
    assert growth.expected({10: 1.0, 100: 100.0}, 1000) == pytest.approx(10_000.0)  # quadratic so far
    assert growth.expected({10: 1.0, 100: 1.1}, 1000) == pytest.approx(11.0)  # never less than proportional


def test_the_peak_is_the_fastest_size_in_the_median_and_the_best_single_product_stands_beside():
    times = {"gemm 10": Times((1.0, 2.0, 3.0)), "gemm 20": Times((0.9, 9.0, 9.0)), "ours": Times((0.01,))}
    peak = machine.Peak.of(times)
    assert (peak.size, peak.median) == (20, pytest.approx(2 * 20**3 / 9.0))
    assert peak.best == pytest.approx(2 * 20**3 / 0.9)


def test_a_percentile_is_one_of_the_repeats():
    assert Times(tuple(float(n) for n in range(100))).percentile(99) == 99.0
    assert Times((1.0, 5.0)).percentile(50) == 5.0


def test_a_failing_command_is_reported_with_its_last_words():
    with pytest.raises(RuntimeError, match="no such thing"):
        timing.run_command([timing.sys.executable, "-c", "import sys; sys.exit('no such thing')"])


def test_a_part_that_breaks_becomes_a_row_and_keeps_the_rows_before(tmp_path):
    def part(_bench):
        yield Row("3", "before", ours=1.0)
        raise OSError("disk full")

    failures = []
    rows = list(command_line.measured("3", part, Workbench(tmp_path, tmp_path), {}, failures))
    assert [row.what for row in rows][:1] == ["before"] and "disk full" in rows[1].remark
    assert rows[1].verdict == "not measured" and len(failures) == 1


def test_without_a_gpu_every_goal_of_the_gpu_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    rows = list(command_line.PARTS["4"](Workbench(tmp_path, tmp_path)))
    assert rows and {row.remark for row in rows} == {"no GPU on this machine"}


def test_the_program_writes_its_report_where_it_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command_line, "PARTS", {"4": lambda bench: iter(ROWS)})
    assert command_line.main(["--quick", "--only", "4", "--out", str(tmp_path)]) == 0
    assert "A quick run" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "no GPU on this machine" in capsys.readouterr().out


# What it compares with -----------------------------------------------------------------------------------------------


def test_operations_of_the_published_network_are_counted_from_its_layers():
    assert published.flops(NetworkConfig.published()) == pytest.approx(13.417e9, rel=1e-4)  # known of its release


def test_the_plain_network_gives_what_ours_gives():
    import torch

    torch.manual_seed(0)
    ours = APENetwork(TINY).eval()
    plain = published.PlainNetwork(TINY)
    plain.load_state_dict(ours.state_dict())
    image = torch.rand(1, 1, 36, 44, 40)
    with torch.inference_mode():
        assert torch.allclose(plain(image), ours(image), atol=2e-6)


def test_overlapping_tiles_of_the_reference_cover_everything():
    class Average(published.nn.Module):
        def forward(self, image):
            return published.F.avg_pool3d(image, 4).expand(-1, 3, -1, -1, -1)

    image = np.random.default_rng(0).random((108, 100, 70)).astype(np.float32)
    output = published.embedded(Average(), image)
    assert output.shape == (3, 27, 25, 17)
    blocks = image[:108, :100, :68].reshape(27, 4, 25, 4, 17, 4).mean(axis=(1, 3, 5))
    assert np.allclose(output[0], blocks, atol=1e-5)


def test_the_published_preparation_is_the_reference_of_ours():
    scan = scans.stretched((60, 50, 40), (300.0, 250.0, 160.0))
    image = prepare(scan, PreparationConfig.published(), (1.0, 1.0, 1.5)).image
    assert np.abs(published.prepared(scan) - image).max() <= 2e-3


# Scans ---------------------------------------------------------------------------------------------------------------


def test_scans_of_any_size_come_from_the_sample_and_are_the_same_each_time():
    scan = scans.stretched((48, 40, 300), (350.0, 350.0, 900.0))
    assert scan.voxels.shape == (48, 40, 300) and scan.voxels.dtype == np.int16
    assert np.allclose(scan.spacing, (350 / 48, 350 / 40, 3.0))
    assert np.array_equal(scan.voxels, scans.stretched((48, 40, 300), (350.0, 350.0, 900.0)).voxels)
    depth = scans.source().voxels.shape[2]
    mirrored = scan.voxels[:, :, depth : 2 * depth - 2][:, :, ::-1]
    assert np.abs(scan.voxels[:, :, 1 : depth - 1].astype(float) - mirrored).mean() < 2 * scans.NOISE_HU


def test_a_folder_of_larger_scans_can_be_named(tmp_path, monkeypatch):
    small = scans.stretched((30, 30, 20), (300.0, 300.0, 100.0), "small")
    large = scans.stretched((40, 40, 30), (300.0, 300.0, 150.0), "large")
    for scan in (small, large):
        scans.written(scan, tmp_path / f"{scan.name}.nii.gz")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    scans.source.cache_clear()
    try:
        assert scans.source().voxels.shape == (40, 40, 30)
    finally:
        scans.source.cache_clear()


def test_an_empty_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    scans.source.cache_clear()
    try:
        with pytest.raises(FileNotFoundError, match="BENCH_DATA"):
            scans.source()
    finally:
        scans.source.cache_clear()


def test_queries_are_near_the_body_of_the_map():
    class Map:
        values = np.random.default_rng(1).normal(0, 100, (5, 6, 7, 3)).astype(np.float32)
        body = np.zeros((5, 6, 7), bool)

    Map.body[2, 3, 4] = True
    queries = body_queries(Map, 50)
    assert queries.shape == (50, 3) and np.abs(queries - Map.values[2, 3, 4]).max() < 20
