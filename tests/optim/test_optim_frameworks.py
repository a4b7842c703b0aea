"""The snippets of the documentation, run as they stand: they train, and as plainer loops over the same batches do."""

import importlib.util
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from flatmin.optim import SAM, LookSAM, Regime, SharpnessAware

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets"
SGD = torch.optim.SGD
EPOCHS, BATCHES, SIZE, PARTS = 4, 4, 8, 2
PART = SIZE // PARTS
STEPS = BATCHES * EPOCHS
HALF = STEPS // 2

Batch = tuple[Tensor, Tensor]

# Lightning's own, and what resuming in the same folder brings
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:Checkpoint directory")


def snippet(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SNIPPETS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def equal(left: nn.Module, right: nn.Module) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def fell(losses: list[float]) -> bool:
    """Whether the last epoch's loss is well below the first one's."""
    return sum(losses[-BATCHES:]) < 0.8 * sum(losses[:BATCHES])


def assert_close(left: nn.Module, right: nn.Module, tolerance: float) -> None:
    for a, b in zip(left.parameters(), right.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def mlp(*norm: nn.Module) -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 8), *norm, nn.Tanh(), nn.Linear(8, 3))


@pytest.fixture
def batches() -> list[Batch]:
    inputs = torch.randn(BATCHES * SIZE, 6, generator=torch.Generator().manual_seed(1))
    return list(zip(inputs.split(SIZE), inputs[:, :3].argmax(1).split(SIZE), strict=True))


def passes(model: nn.Module) -> list[dict[str, Tensor]]:
    """The growing list of a module's forward passes: the keyword arguments of each."""
    seen: list[dict[str, Tensor]] = []
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    return seen


def second_half(remembers: bool) -> int:
    """The passes of a run's second half, with an ascent in every step, or in every third of the whole run."""
    return HALF + (sum(step % 3 == 0 for step in range(HALF, STEPS)) if remembers else HALF)


def by_hand(model: nn.Module, batches: list[Batch]) -> list[float]:
    """SAM as its paper writes it, in torch alone."""
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        eps = [0.05 * p.grad / norm for p in model.parameters()]
        optimizer.zero_grad()
        at = {name: p + e for (name, p), e in zip(model.named_parameters(), eps, strict=True)}
        cross_entropy(torch.func.functional_call(model, at, (inputs,)), targets).backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def in_parts(batches: list[Batch]) -> list[list[Batch]]:
    return [list(zip(inputs.split(PART), targets.split(PART), strict=True)) for inputs, targets in batches]


LOOPS = {
    "closure": lambda model, batches: snippet("own_loop").train(model, batches),
    "two calls": lambda model, batches: snippet("own_loop_two_calls").train(model, batches),
    "parts": lambda model, batches: snippet("accumulation").train(model, batches, micro_batch=PART),
    "lists": lambda model, batches: snippet("accumulation").train_on_lists(model, in_parts(batches)),
}


@pytest.mark.parametrize(("loop", "calls"), [("closure", 1), ("two calls", 1), ("parts", PARTS), ("lists", PARTS)])
def test_an_own_loop_trains_as_sam_by_hand(loop, calls, batches):
    model, twin = mlp(), mlp()
    seen = passes(model)
    losses = LOOPS[loop](model, batches * EPOCHS)
    assert len(seen) == 2 * calls * STEPS
    assert losses == pytest.approx(by_hand(twin, batches * EPOCHS), rel=1e-10)
    assert_close(model, twin, 1e-10)
    assert fell(losses)


@pytest.mark.parametrize("overflows", [0, 1])
def test_half_precision_trains_as_full_and_skips_an_overflow(overflows, batches):
    batches = [(inputs.float(), targets) for inputs, targets in batches] * EPOCHS
    overflowing = [(inputs * torch.finfo(torch.float16).max, targets) for inputs, targets in batches[:overflows]]
    model, twin = mlp().float(), mlp().float()
    losses = snippet("mixed_precision").train(model, overflowing + batches, device="cpu")
    assert not any(map(math.isfinite, losses[:overflows]))
    assert losses[overflows:] == pytest.approx(by_hand(twin, batches), rel=1e-2)
    assert_close(model, twin, 5e-3)
    assert fell(losses[overflows:])


def test_a_descent_before_the_last_of_several_ascents_is_refused(batches):
    model = mlp()
    optimizer = SAM(model, SGD, regime=Regime(steps=2), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        cross_entropy(model(batches[0][0]), batches[0][1]).backward()
        if not optimizer.perturbed:
            optimizer.ascend()
    with pytest.raises(RuntimeError, match="ascend"):
        optimizer.descend()


def test_autocast_around_two_calls_serves_no_stale_casts_of_the_weights(batches):
    inputs, targets = batches[0][0].float(), batches[0][1]
    model = mlp().float()
    optimizer = SAM(model, SGD, rho=1.0, lr=0.0)

    def loss() -> Tensor:
        optimizer.zero_grad()
        return cross_entropy(model(inputs), targets)

    with torch.autocast("cpu", torch.bfloat16):
        (clean := loss()).backward()
        optimizer.ascend()
        (perturbed := loss()).backward()
        optimizer.descend()
        after = loss()
    assert perturbed > clean + 0.1
    assert after == clean


@pytest.fixture
def classifier() -> type[nn.Module]:
    pytest.importorskip("lightning")
    return snippet("lightning_module").Classifier


def fit(module: nn.Module, batches: list[Batch], folder: Path, resume: Path | None = None, **settings: object):
    lightning = pytest.importorskip("lightning")
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        default_root_dir=folder,
        callbacks=[lightning.pytorch.callbacks.ModelCheckpoint(folder, filename="{step}", save_top_k=-1)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    dataset = TensorDataset(*map(torch.cat, zip(*batches, strict=True)))
    trainer.fit(module, DataLoader(dataset, SIZE), ckpt_path=resume)
    return trainer


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_trains_as_a_plain_loop(precision, classifier, batches, tmp_path):
    mixed = precision == "bf16-mixed"
    batches = [(inputs.float() if mixed else inputs, targets) for inputs, targets in batches]
    model, twin = (mlp(nn.BatchNorm1d(8)).to(batches[0][0].dtype) for _ in range(2))
    seen = passes(model)
    trainer = fit(classifier(model), batches, tmp_path, precision=precision)

    optimizer = SAM(twin, SGD, rho=0.05, lr=0.1, momentum=0.9)
    schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS)

    def closure(inputs: Tensor, targets: Tensor) -> Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
            loss = cross_entropy(twin(inputs), targets)
        loss.backward()
        return loss

    losses = []
    for _ in range(EPOCHS):
        losses.append(sum(optimizer.step(partial(closure, *batch)).item() for batch in batches) / BATCHES)
        schedule.step()

    assert equal(model, twin)
    assert trainer.global_step == STEPS
    assert len(seen) == 2 * STEPS
    assert trainer.callback_metrics["train_loss"].item() == pytest.approx(losses[-1], rel=1e-6)
    assert trainer.optimizers[0].param_groups[0]["lr"] == schedule.get_last_lr()[0] < 1e-8
    assert losses[-1] < 0.8 * losses[0]


def test_lightnings_scaler_which_passes_no_closure_is_refused(classifier, batches, tmp_path):
    precision = pytest.importorskip("lightning.pytorch.plugins.precision")
    batches = [(inputs.float(), targets) for inputs, targets in batches]
    with pytest.raises(TypeError, match="needs a closure"):
        fit(classifier(mlp().float()), batches, tmp_path, plugins=[precision.MixedPrecision("16-mixed", "cpu")])


@pytest.mark.parametrize("remembers", [False, True])
def test_a_resumed_run_of_lightning_equals_an_unbroken_one(remembers, classifier, batches, tmp_path):
    class WithLookSAM(classifier):
        def configure_optimizers(self) -> SharpnessAware:
            return LookSAM(self, SGD, k=3, lr=0.1, momentum=0.9)

    def build() -> nn.Module:
        return (WithLookSAM if remembers else classifier)(mlp(nn.BatchNorm1d(8)))

    unbroken, resumed = build(), build()
    fit(unbroken, batches, tmp_path)
    seen = passes(resumed.network)
    fit(resumed, batches, tmp_path, resume=tmp_path / f"step={HALF}.ckpt")
    assert equal(unbroken, resumed)
    assert len(seen) == second_half(remembers)


@pytest.fixture
def transformers() -> ModuleType:
    return pytest.importorskip("transformers")


@pytest.fixture
def bert(transformers) -> Callable[[], nn.Module]:
    """Makes equal tiny classifiers of sequences."""
    config = transformers.BertConfig(
        vocab_size=2,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=4,
        initializer_range=0.3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )

    def build() -> nn.Module:
        torch.manual_seed(2)
        return transformers.BertForSequenceClassification(config).float()

    return build


@pytest.fixture
def trainer_of(transformers, tmp_path) -> Callable[..., object]:
    """The snippet's trainer on sequences of one token each, which is also their class."""
    tokens = torch.randint(0, 2, (BATCHES * SIZE,), generator=torch.Generator().manual_seed(1))
    dataset = [{"input_ids": token.expand(4), "labels": token} for token in tokens]

    def build(model: nn.Module, **settings: object):
        arguments = transformers.TrainingArguments(
            output_dir=tmp_path,
            per_device_train_batch_size=SIZE,
            num_train_epochs=EPOCHS,
            learning_rate=1e-2,
            save_strategy="epoch",
            logging_steps=1,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            **settings,
        )
        return snippet("hugging_face").trainer_of(model, dataset, arguments)

    return build


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.2])
def test_the_trainer_trains_as_a_plain_loop(bf16, max_grad_norm, transformers, bert, trainer_of):
    model, twin = bert(), bert()
    seen = passes(model)
    trainer = trainer_of(model, bf16=bf16, max_grad_norm=max_grad_norm)
    trainer.train()
    assert trainer.state.global_step == STEPS
    assert len(seen) == 2 * STEPS
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(first["input_ids"], second["input_ids"])

    optimizer = SAM(twin, torch.optim.AdamW, rho=0.05, lr=1e-2)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 0, STEPS)
    losses = []
    for batch in seen[::2]:
        for ascent in (True, False):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                loss = twin(**batch).loss
            loss.backward()
            if ascent:
                losses.append(loss.item())
                assert optimizer.ascend()
        if max_grad_norm:
            nn.utils.clip_grad_norm_(twin.parameters(), max_grad_norm)
        optimizer.step()
        schedule.step()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert equal(model, twin)
    assert logged == pytest.approx(losses, abs=1e-4)
    assert fell(losses)


@pytest.mark.parametrize("remembers", [False, True])
def test_a_resumed_trainer_equals_an_unbroken_one(remembers, bert, trainer_of, tmp_path):
    unbroken, resumed = bert(), bert()

    def train(model: nn.Module, **resume: str) -> None:
        trainer = trainer_of(model)
        if remembers:
            trainer.optimizer = LookSAM(model, torch.optim.AdamW, k=3, lr=1e-2)
        trainer.train(**resume)

    train(unbroken)
    seen = passes(resumed)
    train(resumed, resume_from_checkpoint=str(tmp_path / f"checkpoint-{HALF}"))
    assert equal(unbroken, resumed)
    assert len(seen) == second_half(remembers)


def test_a_trainer_that_accumulates_is_refused(bert, trainer_of):
    with pytest.raises(RuntimeError, match=r"ascend\(\) was called already"):
        trainer_of(bert(), gradient_accumulation_steps=2).train()
