"""``flatmin models``: exact sizes, what a measurement does, what is listed and shown, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
import yaml
from torch import Tensor, nn

from flatmin import model_view
from flatmin.catalogue import models, synonyms
from flatmin.cli import main
from flatmin.executor import WORKER_ENVIRONMENT
from flatmin.model_view import arguments, human, matching
from flatmin.models import measured, speed
from flatmin.models.measured import Images, ModelError, Row, Size, Speed, built, sized_row, timed, timed_rows
from flatmin.models.mlp import MLP
from flatmin.models.size import multiply_adds, parameter_count
from flatmin.settings import ModelSpec


def on_meta(name: str, images: Images) -> nn.Module:
    with torch.device("meta"):
        return built(name, images)


# --- sizes ------------------------------------------------------------------------------------------------------------


def resnet20_multiply_adds(classes: int, size: int, channels: int) -> int:
    """He et al. 2016, section 4.2: every weight of a convolution once per pixel of its output."""
    whole, half, quarter = size**2, (size // 2) ** 2, (size // 4) ** 2
    stem = whole * 9 * channels * 16
    stage1 = whole * 6 * 9 * 16 * 16
    stage2 = half * (9 * 16 * 32 + 5 * 9 * 32 * 32)
    stage3 = quarter * (9 * 32 * 64 + 5 * 9 * 64 * 64)
    return stem + stage1 + stage2 + stage3 + 64 * classes


@pytest.mark.parametrize("images", [Images(), Images(classes=100), Images(size=64), Images(channels=1, size=8)])
def test_multiply_adds_of_a_resnet_are_those_of_its_layers(images: Images) -> None:
    counted = multiply_adds(on_meta("cifar_resnet20", images), images.shape)
    assert counted == resnet20_multiply_adds(images.classes, images.size, images.channels)


@pytest.mark.parametrize(("depth", "published"), [(20, 40.81), (32, 69.12), (44, 97.44), (56, 125.75)])
def test_multiply_adds_of_resnets_are_the_published_ones(depth: int, published: float) -> None:
    """Those of https://github.com/chenyaofo/pytorch-cifar-models, whose two shortcuts with weights are option B."""
    with torch.device("meta"):
        model = timm.create_model(f"cifar_resnet{depth}", shortcut="B")
    assert round(multiply_adds(model, (3, 32, 32)) / 1e6, 2) == published


def test_multiply_adds_of_attention_are_those_of_its_products() -> None:
    tokens, width = (32 // 16) ** 2 + 1, 192
    block = tokens * (3 + 1 + 4 + 4) * width**2 + 2 * tokens**2 * width
    patches = (tokens - 1) * 16 * 16 * 3 * width
    counted = multiply_adds(on_meta("vit_tiny_patch16_224", Images()), (3, 32, 32))
    assert counted == patches + 12 * block + width * 10


def test_a_grouped_convolution_costs_its_weights_per_pixel() -> None:
    convolution = nn.Conv2d(8, 12, 3, groups=4, stride=2, padding=1)
    assert multiply_adds(convolution, (8, 10, 6)) == 5 * 3 * 12 * (8 // 4) * 9


def test_parameters_are_the_sum_over_layers_without_statistics() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 2))
    assert parameter_count(model) == (5 * 3 * 9 + 5) + 2 * 5 + (20 * 2 + 2)
    row = sized_row("cifar_resnet20", Images())
    assert row.size is not None
    assert row.size.parameters == sum(p.numel() for p in timm.create_model("cifar_resnet20").parameters()) == 269_722


def test_counting_leaves_a_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.BatchNorm2d(5).eval())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    multiply_adds(model, (3, 8, 8))
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- speed ------------------------------------------------------------------------------------------------------------


def measure(monkeypatch: pytest.MonkeyPatch, seconds: Sequence[float], batch: int = 8) -> tuple[float, list[int]]:
    """Return the speed of steps that take so long, and how many images each had; the warming one comes first."""
    clock, batches = iter([99.0, *seconds]), []

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
        batches.append(len(images))
        return next(clock)

    monkeypatch.setattr(speed, "_seconds", step)
    images, labels = torch.zeros(batch, 1), torch.zeros(batch, dtype=torch.long)
    return speed.training_speed(nn.Linear(1, 2), images, labels), batches


@pytest.mark.parametrize(
    ("seconds", "steps", "median"),
    [
        ([0.1] * 9, 5, 0.1),  # five are enough
        ([0.5, 0.1, 0.2, 0.1, 0.1], 5, 0.1),  # one slow step changes nothing
        ([0.9] * 9, 2, 0.9),  # a third would end after 2 seconds
        ([0.9, 0.7, 0.7], 2, 0.8),
        ([7.0] * 9, 1, 7.0),  # a long step is measured once
    ],
)
def test_a_measurement_is_bounded(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], steps: int, median: float
) -> None:
    per_second, batches = measure(monkeypatch, seconds)
    assert per_second == pytest.approx(8 / median)
    assert batches == [speed.SMALLEST_BATCH, *[8] * steps]


def test_what_is_measured_is_a_training_step() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert speed.training_speed(model, torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])) > 0
    assert model.training
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("cost", "device", "batch"),
    [
        (411_136, "cpu", 128),  # mlp
        (40_551_040, "cpu", 128),  # ResNet-20
        (392_612_352, "cpu", 16),  # WRN-16-4
        (5_243_328_768, "cpu", 2),  # WRN-28-10
        (10**12, "cpu", 2),
        (5_243_328_768, "cuda", 128),
        (0, "cpu", 128),
    ],
)
def test_large_networks_are_measured_with_fewer_images(cost: int, device: str, batch: int) -> None:
    assert speed.batch_size(cost, device) == batch


@pytest.mark.parametrize("cost", [10**power for power in range(5, 12)])
def test_a_batch_is_the_largest_power_of_two_that_a_step_affords(cost: int) -> None:
    batch, limit = speed.batch_size(cost, "cpu"), speed.STEP_MULTIPLY_ADDS["cpu"]
    assert batch.bit_count() == 1
    assert batch == speed.SMALLEST_BATCH or 3 * cost * batch <= limit
    assert batch == speed.LARGEST_BATCH or 3 * cost * 2 * batch > limit


def test_the_process_that_measures_computes_like_a_worker() -> None:
    before, handler = dict(os.environ), signal.getsignal(signal.SIGINT)
    with measured._process(WORKER_ENVIRONMENT) as worker:
        environment = {name: worker.submit(os.getenv, name).result() for name in WORKER_ENVIRONMENT}
        found = worker.submit(timed, "mlp", Images(size=8), 4, "cpu").result()
        threads = worker.submit(torch.get_num_threads).result()
        interrupted = worker.submit(signal.getsignal, signal.SIGINT).result()
    assert environment == WORKER_ENVIRONMENT
    assert dict(os.environ) == before
    assert threads == 1
    assert interrupted is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is handler
    assert (found.batch, found.images_per_second > 0) == (4, True)


class FakeProcess:
    """Fails every measurement, or finds one image per second."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.measured: list[tuple[Any, ...]] = []

    def submit(self, function: object, *args: Any) -> Future[Speed]:
        self.measured.append(args)
        future: Future[Speed] = Future()
        if self.error is None:
            future.set_result(Speed(1.0, args[2]))
        else:
            future.set_exception(self.error)
        return future


def rows_of(process: FakeProcess, monkeypatch: pytest.MonkeyPatch, *rows: Row) -> list[Row]:
    monkeypatch.setattr(measured, "_process", lambda _: contextlib.nullcontext(process))
    return list(timed_rows(rows, Images(), "cpu"))


def test_what_cannot_be_trained_is_said_of_that_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("mlp", Size(1, 1))
    (found,) = rows_of(FakeProcess(ValueError("Expected more than 1 value\nper channel")), monkeypatch, row)
    assert found == replace(row, problem="Expected more than 1 value")


def test_what_has_no_size_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    process, broken = FakeProcess(), Row("broken", problem="too small")
    rows = rows_of(process, monkeypatch, broken, Row("mlp", Size(1, 5_243_328_768)))
    assert rows == [broken, Row("mlp", Size(1, 5_243_328_768), Speed(1.0, 2))]
    assert process.measured == [("mlp", Images(), 2, "cpu")]


def test_a_killed_process_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"mlp.*memory.*--no-speed"):
        rows_of(FakeProcess(BrokenProcessPool()), monkeypatch, Row("mlp", Size(1, 1)))


# --- which models -----------------------------------------------------------------------------------------------------


def test_without_a_pattern_all_of_ours_match_by_their_first_names() -> None:
    found = matching([])
    assert found == [*synonyms()]
    assert {*found, *(name for others in synonyms().values() for name in others)} == set(models())


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["cifar_resnet20"], ["cifar_resnet20"]),
        (["wrn16_4"], ["cifar_wrn16_4"]),
        (["wrn16_[4]", "mlp", "cifar_wrn16_4"], ["cifar_wrn16_4", "cifar_mlp"]),
        (["cifar_resnet2?"], ["cifar_resnet20"]),
        (["resnet18"], ["resnet18"]),
        (["resnet18.a1_in1k"], ["resnet18.a1_in1k"]),
    ],
)
def test_names_patterns_and_synonyms_match(patterns: list[str], found: list[str]) -> None:
    assert matching(patterns) == found


def test_patterns_match_timms_own_models_where_that_is_asked_for() -> None:
    found = matching(["*resnet18"], all_of_timm=True)
    assert "resnet18" in found
    assert found[0] in synonyms()  # ours first
    assert matching(["mlp"], all_of_timm=True) == ["cifar_mlp"]


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test of the command measures anything; each finds 123.4 images per second."""

    def with_speed(rows: Sequence[Row], images: Images, place: str, environment: object) -> Iterator[Row]:
        yield from (row if row.size is None else replace(row, speed=Speed(123.4, 16)) for row in rows)

    monkeypatch.setattr(model_view, "timed_rows", with_speed)
    monkeypatch.setenv("FLATMIN_DEVICE", "cpu")


def run(*args: str) -> int:
    """Run the command; return its exit code."""
    try:
        main(["models", *args])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def listed(text: str) -> dict[str, list[str]]:
    """Return the cells of each row of the list by its first, without an empty one for synonyms."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.startswith(" ")]
    return {row[0]: row[1:] for row in rows if row[0]}


def test_a_list_has_names_sizes_and_speeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("mlp", "wrn16_*", "cifar_resnet20") == 0
    text = capsys.readouterr().out
    rows = listed(text)
    assert text.startswith("models for 3x32x32 images and 10 classes")
    assert rows["name"] == ["also called", "parameters", "multiply-adds", "images/s", "batch"]
    assert rows["cifar_mlp"] == ["mlp", "0.41M", "0.41M", "123", "16"]
    assert rows["cifar_wrn16_4"] == ["wrn16_4", "2.75M", "392.61M", "123", "16"]
    assert rows["cifar_resnet20"] == ["0.27M", "40.55M", "123", "16"]
    assert "a multiply-add is 2 FLOPs" in text
    assert "one thread of the CPU" in text
    assert "\x1b" not in text


def test_a_list_without_speeds_measures_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(model_view, "timed_rows")
    assert run("mlp", "cifar_cnn", "--no-speed", "--size", "8", "--channels", "1", "--classes", "3") == 0
    text = capsys.readouterr().out
    assert text.startswith("models for 1x8x8 images and 3 classes")
    assert listed(text)["name"] == ["also called", "parameters", "multiply-adds"]
    assert listed(text)["cifar_mlp"] == ["mlp", "0.03M", "0.02M"]
    assert "images/s" not in text


def test_a_model_that_takes_no_such_images_is_listed_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("mlp", "inception_v3") == 0
    text = capsys.readouterr().out
    assert listed(text)["inception_v3"] == ["–", "–", "–", "–"]
    assert listed(text)["cifar_mlp"][-1] == "16"
    assert re.search(r"^inception_v3: .*Kernel size can't be greater", text, re.MULTILINE)


def test_one_of_ours_is_shown_with_paper_arguments_and_snippet(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("wrn16_4") == 0
    text = capsys.readouterr().out
    assert text.startswith("cifar_wrn16_4 = wrn16_4\n")
    assert timm.model_entrypoint("cifar_wrn16_4").__doc__.split("\n")[0] in text
    assert "Zagoruyko & Komodakis 2016" in text
    assert re.search(r"parameters +2\.75M \(2,748,890\)", text)
    assert re.search(r"images/s +123 \(batches of 16\)", text)
    assert re.search(r"^  depth +16\n  width +4\n", text, re.MULTILINE)
    assert "stem" not in snippet_in(text)
    assert model_in(text) == ModelSpec(name="wrn16_4")


def test_one_of_timms_is_shown_with_what_a_small_stem_changes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("resnet18.a1_in1k", "--no-speed") == 0
    text = capsys.readouterr().out
    native, small = text.split("with `stem: cifar`:")
    assert "stem changed" not in native
    assert "parameters     11.18M (11,181,642)" in native
    assert "parameters     11.17M (11,173,962)" in small  # a 3x3 stem: 64 x 3 x (49 - 9) weights fewer
    assert "conv1: 7x7 convolution with stride 2 became 3x3 convolution with stride 1" in small
    assert re.search(r"^  layers +\[2, 2, 2, 2\]\n", small, re.MULTILINE)
    assert "BasicBlock" not in small  # YAML has no classes
    assert model_in(text) == ModelSpec(name="resnet18.a1_in1k", stem="cifar")


def snippet_in(text: str) -> str:
    return text.split("in params.yaml:\n")[1].split("\n\n")[0]


def model_in(text: str) -> ModelSpec:
    """Return the settings of the only model in the snippet, as a study reads them."""
    ((label, settings),) = yaml.safe_load(snippet_in(text))["models"].items()
    assert "." not in label
    return ModelSpec.model_validate(settings)


def test_arguments_are_what_the_class_is_called_with() -> None:
    constructor = MLP.__init__
    with torch.device("meta"):
        assert arguments("mlp", Images(size=8)) == {"hidden": (128, 128), "img_size": 8, "drop_rate": 0.0}
        assert arguments("cifar_resnet20", Images())["blocks_per_stage"] == 3
    assert MLP.__init__ is constructor


def test_values_of_arguments_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("mobilenetv3_small_100", "--no-speed") == 0
    text = capsys.readouterr().out
    lines = text.split("gives them:\n")[1].split("\n\n")[0].splitlines()
    assert max(map(len, lines)) < 120
    shown = dict(line.split(maxsplit=1) for line in lines)
    assert shown["block_args"].endswith(" ...")
    assert {"norm_layer", "act_layer"}.isdisjoint(shown)  # classes, which YAML has not
    assert shown["aa_layer"] == "null"
    assert (shown["head_bias"], shown["pad_type"], shown["stem_size"]) == ("true", '""', "16")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["wrn16_5"], ["'wrn16_5'", "'wrn16_4'"]),
        (["mlp", "zzz*"], ["'zzz*'", "--all-of-timm"]),
        (["--all-of-timm"], ["needs a pattern"]),
        (["inception_v3", "--no-speed"], ["inception_v3", "3x32x32 images and 10 classes", "Kernel size"]),
        (["mlp", "--classes", "0"], ["--classes"]),
    ],
)
def test_bad_input_is_refused_with_the_fix(
    args: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*args) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words), error


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert "flatmin models 'cifar_resnet*'" in text
    assert "2 FLOPs" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "0.01M"),
        (269_722, "0.27M"),
        (36_479_194, "36.48M"),
        (999_994_999, "999.99M"),
        (999_995_000, "1.00G"),
        (5_243_328_768, "5.24G"),
    ],
)
def test_counts_are_printed_as_papers_do(count: int, text: str) -> None:
    assert human(count) == text


def test_neither_the_driver_nor_its_libraries_are_loaded() -> None:
    script = (
        "import json, sys\nfrom flatmin.cli import main\nmain(['models', 'mlp', 'cifar_cnn', '--no-speed'])\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "timm" in loaded
    assert loaded & {"mlflow", "dvc", "dask", "distributed", "pandas", "matplotlib"} == set()
