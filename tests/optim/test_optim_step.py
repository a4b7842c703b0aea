"""What the step promises besides its arithmetic: order of passes, skipping, groups, copies, errors."""

import ast
import copy
import pickle
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flatmin.optim import ASAM, SAM, SharpnessAware, frozen_statistics
from flatmin.optim.ascents.none import NoAscent
from flatmin.optim.ascents.sam import SamAscent

SGD = torch.optim.SGD


def states(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


def test_step_returns_the_clean_loss(network, closure_for):
    model = network()
    expected = closure_for(network())()
    loss = SAM(model, SGD, rho=1.0, lr=0.1).step(closure_for(model))
    assert torch.equal(loss, expected)
    assert not loss.requires_grad


def test_closures_run_with_gradients_enabled_whatever_the_caller_does(network, closure_for):
    model = network()
    with torch.no_grad():
        SAM(model, SGD, lr=0.1).step(closure_for(model))
    assert not equal(states(model), states(network()))


@pytest.mark.parametrize("make", [SAM, ASAM])
@pytest.mark.parametrize("failing_call", [1, 2])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_a_closure_leaves_no_trace(make, failing_call, error, network, closure_for):
    model = network()
    optimizer = make(model, SGD, lr=0.1, momentum=0.9)
    before, addresses = states(model), [p.data_ptr() for p in model.parameters()]
    healthy, calls, perturbed = closure_for(model), 0, []

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        perturbed.append(optimizer.perturbed)
        loss = healthy()
        if calls == failing_call:
            raise error("out of memory")
        return loss

    with pytest.raises(error, match="out of memory"):
        optimizer.step(closure)
    assert equal(states(model), before)
    assert [p.data_ptr() for p in model.parameters()] == addresses
    assert perturbed == [False, True][:failing_call]
    assert not optimizer.perturbed
    assert model[1].track_running_stats
    assert not optimizer.state
    optimizer.step(closure)
    assert not optimizer.last_step_skipped


def test_statistics_poisoned_by_a_bad_batch_are_healthy_again(network, closure_for, batch):
    model = network()
    optimizer = SharpnessAware(model, SGD, NoAscent(), lr=0.1)
    closure = closure_for(model)
    optimizer.step(closure)
    before = states(model)
    batch[0][3] = torch.nan
    loss = optimizer.step(closure)
    assert loss.isnan()
    assert optimizer.last_step_skipped
    assert torch.tensor(optimizer.last_gradient_norm).isnan()
    assert equal(states(model), before)


def test_only_the_second_gradient_is_clipped(network, closure_for, watching):
    free, clipped = network(), network()
    limit = 1e-3
    with watching(free, closure_for(free)) as (closure, weights, gradients):
        SAM(free, SGD, rho=0.2, lr=0.0).step(closure)
    with watching(clipped, closure_for(clipped)) as (closure, clipped_weights, _):
        optimizer = SAM(clipped, SGD, rho=0.2, lr=0.0, clip_norm=limit)
        optimizer.step(closure)
    assert equal(clipped_weights[1], weights[1])  # the same perturbation
    norms = [torch.cat([g.flatten() for g in pass_]).norm().item() for pass_ in gradients]
    assert optimizer.last_gradient_norm == pytest.approx(norms[0], rel=1e-12)
    for parameter, gradient in zip(clipped.parameters(), gradients[1], strict=True):
        torch.testing.assert_close(parameter.grad, gradient * (limit / (norms[1] + 1e-6)), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("clip_norm", [1e-3, 1e3])
def test_without_an_ascent_clipping_is_that_of_torch(clip_norm, network, closure_for):
    ours, theirs = network(), network()
    optimizer = SharpnessAware(ours, SGD, NoAscent(), lr=0.1, clip_norm=clip_norm)
    plain = SGD(theirs.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.step(closure_for(ours))
        closure_for(theirs)()
        nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        plain.step()
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-14)


def test_frozen_parameters_do_not_move_and_do_not_count(network, closure_for, watching):
    model = network()
    model[0].requires_grad_(False)
    before = states(model)
    with watching(model, closure_for(model)) as (closure, weights, _):
        SAM(model, SGD, rho=0.3, lr=0.1, weight_decay=0.1).step(closure)
    moves = [after - start for start, after in zip(*weights, strict=True)]
    assert not moves[0].any()
    assert torch.cat([m.flatten() for m in moves]).norm().item() == pytest.approx(0.3, rel=1e-12)
    assert equal(states(model)[:2], before[:2])


@pytest.mark.parametrize("make", [SAM, ASAM])
def test_tied_weights_are_perturbed_once(make):
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    model, inputs, seen = nn.Sequential(first, nn.Tanh(), second), torch.randn(5, 4), []
    optimizer = make(model, SGD, rho=0.3, lr=0.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        seen.append(first.weight.detach().clone())
        loss = model(inputs).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    move = seen[1] - seen[0]
    scaled = move if make is SAM else move / (seen[0].abs() + 0.01)
    assert scaled.norm().item() == pytest.approx(0.3, rel=1e-12)
    assert torch.equal(first.weight, seen[0])


def test_groups_state_and_defaults_are_those_of_the_base(network, closure_for):
    model = network()
    optimizer = SAM(model, SGD, lr=0.1, momentum=0.9)
    assert isinstance(optimizer, torch.optim.Optimizer)
    optimizer.step(closure_for(model))
    optimizer.load_state_dict(optimizer.state_dict())  # replaces the base's groups and state
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.state is optimizer.base.state
    assert optimizer.defaults is optimizer.base.defaults
    assert optimizer.defaults["momentum"] == 0.9
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_the_rho_of_a_group_travels_with_its_settings(network):
    def groups(model: nn.Module, **settings: float) -> list[dict[str, object]]:
        return [{"params": model[0].parameters(), **settings}, {"params": model[5].parameters()}]

    model = network()
    saved = SAM(groups(model, rho=0.2), SGD, lr=0.1).state_dict()
    loaded = SAM(groups(model, rho=0.7), SGD, lr=0.1)
    loaded.load_state_dict(saved)
    assert [group.get("rho") for group in loaded.param_groups] == [0.2, None]

    plain = SGD(groups(model), lr=0.3)
    loaded.load_state_dict(plain.state_dict())  # knows of no rho
    assert [group.get("rho") for group in loaded.param_groups] == [0.2, None]
    assert loaded.param_groups[0]["lr"] == 0.3
    plain.load_state_dict(saved)
    plain.step()


def test_a_group_added_later_is_perturbed_at_its_own_radius(network, closure_for, watching):
    model = network()
    optimizer = SAM(model[0].parameters(), SGD, rho=0.0, lr=0.0, module=model)
    optimizer.add_param_group({"params": model[5].parameters(), "rho": 0.2, "lr": 0.5})
    with watching(model, closure_for(model)) as (closure, weights, _):
        optimizer.step(closure)
    moved = [not torch.equal(before, after) for before, after in zip(*weights, strict=True)]
    assert moved == [False, False, False, False, True, True]
    assert not torch.equal(model[5].weight, weights[0][4])
    with pytest.raises(ValueError, match=r"'5\.weight' is listed twice"):
        optimizer.add_param_group({"params": [model[5].weight]})
    with pytest.raises(ValueError, match="rho of a param group = -1"):
        optimizer.add_param_group({"params": [model[1].weight], "rho": -1})
    assert len(optimizer.param_groups) == 2


def test_named_parameters_serve_asam(network, closure_for):
    by_module, by_names = network(), network()
    settings = {"lr": 0.1, "momentum": 0.9}
    first = ASAM(by_module, SGD, **settings)
    second = ASAM(by_names.named_parameters(), SGD, module=by_names, **settings)
    grouped = network()
    third = ASAM([{"params": grouped.named_parameters()}], SGD, **settings)
    for _ in range(3):
        first.step(closure_for(by_module))
        second.step(closure_for(by_names))
        third.step(closure_for(grouped))
    assert equal(states(by_module), states(by_names))
    assert equal(list(by_module.parameters()), list(grouped.parameters()))


def test_bare_parameters_leave_statistics_to_the_closure(network, batch):
    model, twin = network(), network()
    optimizer = SAM(model.parameters(), SGD, lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        if optimizer.perturbed:
            with frozen_statistics(model):
                output = model(batch[0])
        else:
            output = model(batch[0])
        loss = output.square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    twin(batch[0])
    assert equal(list(model.buffers()), list(twin.buffers()))


@pytest.mark.parametrize("make", [SAM, ASAM])
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_go_on_alike_and_apart(make, clone, network, closure_for):
    model = network()
    optimizer = make(model, SGD, lr=0.1, momentum=0.9)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.step(closure_for(model))
    twin, twin_optimizer = clone((model, optimizer))
    assert type(twin_optimizer) is make
    assert twin_optimizer.module is twin
    twin_optimizer.step(closure_for(twin))
    assert not equal(states(model), states(twin))
    optimizer.step(closure_for(model))
    assert equal(states(model), states(twin))


def test_hooks_are_called_once_per_step_and_state_dict(network, closure_for):
    model, calls = network(), []
    optimizer = SAM(model, SGD, lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.register_state_dict_post_hook(lambda *_: calls.append("saved"))
    optimizer.register_load_state_dict_pre_hook(lambda *_: calls.append("loading"))
    optimizer.step(closure_for(model))
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["before", "after", "saved", "loading"]


def test_the_two_passes_see_the_same_batch_normalisation_by_batch(network, closure_for, batch):
    # had the second pass normalised by running statistics, its output would differ from a fresh training-mode pass
    model, outputs, fresh = network(), [], []
    optimizer = SAM(model, SGD, rho=0.5, lr=0.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        output = model(batch[0])
        outputs.append(output.detach())
        fresh.append(copy.deepcopy(model).train()(batch[0]).detach())
        loss = output.square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert equal(outputs, fresh)
    assert not torch.equal(*outputs)


def test_every_step_moves_the_weights(network, closure_for):
    model = network()
    optimizer = SAM(model, SGD, lr=0.1, momentum=0.9)
    seen = [states(model)]
    for _ in range(3):
        optimizer.step(closure_for(model))
        seen.append(states(model))
    assert not any(equal(left, right) for left, right in pairwise(seen))
    assert optimizer.skipped_steps == 0


def test_step_without_a_closure_shows_one(network):
    with pytest.raises(TypeError, match=r"needs a closure(.|\n)*loss\.backward\(\)(.|\n)*optimizer\.step\(closure\)"):
        SAM(network(), SGD, lr=0.1).step()


@pytest.mark.parametrize("result", [None, 1.5, torch.ones(3)])
def test_a_closure_without_a_loss_is_refused(result, network):
    with pytest.raises(TypeError, match="must return its loss"):
        SAM(network(), SGD, lr=0.1).step(lambda: result)


def test_a_closure_that_never_calls_backward_is_refused(network):
    with pytest.raises(RuntimeError, match=r"must call loss\.backward\(\)"):
        SAM(network(), SGD, lr=0.1).step(lambda: torch.tensor(1.0))


def test_a_sparse_gradient_is_refused_by_name():
    model = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Linear(3, 1))
    optimizer = SAM(model, SGD, lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.tensor([1, 2])).sum()
        loss.backward()
        return loss

    with pytest.raises(RuntimeError, match=r"'0\.weight' has a sparse gradient.*sparse=False"):
        optimizer.step(closure)


SHARED = nn.Parameter(torch.ones(2, 3))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([], "no parameter to train"),
        (nn.ReLU(), "no parameter to train"),
        ([SHARED, SHARED], r"shape \(2, 3\) is listed twice"),
        ([{"params": [("a", SHARED)]}, {"params": [("b", SHARED)]}], "'a' is listed twice"),
        ([("z", nn.Parameter(torch.ones(1, dtype=torch.complex64)))], "'z' is complex.*view_as_real"),
        (nn.Linear(2, 2).requires_grad_(False), "none of the 2 parameters requires a gradient.*requires_grad_"),
        ([{"params": [SHARED], "rho": float("nan")}], "rho of a param group = nan"),
        ([{"params": [SHARED], "maximize": True}], "maximize"),
    ],
)
def test_parameters_that_cannot_be_trained_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        SAM(parameters, SGD, lr=0.1)


def test_asam_asks_for_names():
    parameters = nn.Linear(2, 2).parameters()
    with pytest.raises(ValueError, match=r"asam goes by the names.*module\.named_parameters\(\)"):
        ASAM(parameters, SGD, lr=0.1)
    ASAM(nn.Linear(2, 2).parameters(), SGD, parameters="all", lr=0.1)


def test_wrong_arguments_are_refused(network):
    model = network()
    with pytest.raises(TypeError, match="give the class"):
        SAM(model, SGD(model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match="must be an Ascent"):
        SharpnessAware(model, SGD, 0.05, lr=0.1)
    with pytest.raises(TypeError, match="single tensor"):
        SAM(model[0].weight, SGD, lr=0.1)
    with pytest.raises(ValueError, match="maximize"):
        SAM(model, SGD, lr=0.1, maximize=True)
    for clip_norm in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="clip_norm"):
            SharpnessAware(model, SGD, SamAscent(), clip_norm=clip_norm, lr=0.1)


FOLDER = Path(sys.modules[SharpnessAware.__module__].__file__ or "").parent


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.py")), ids=lambda file: file.stem)
def test_the_folder_imports_torch_and_the_standard_library(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            depth = len(file.relative_to(FOLDER).parts)
            assert node.level <= depth
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert {name.partition(".")[0] for name in modules} <= {"torch", *sys.stdlib_module_names}


def test_the_folder_stands_alone_and_loads_one_ascent_at_a_time(tmp_path):
    """Copied out of the package and stripped of its re-exports, it trains without the rest."""
    code = """
import sys
import torch
from lifted.step import SharpnessAware
from lifted.registry import load, names
def ascents():
    return sorted(name for name in sys.modules if name.startswith("lifted.ascents."))
assert "sam" in names() and not ascents()
model = torch.nn.Linear(2, 1)
optimizer = SharpnessAware(model, torch.optim.SGD, load("asam")(), lr=0.1)
def closure():
    optimizer.zero_grad()
    loss = model(torch.ones(3, 2)).sum()
    loss.backward()
    return loss
optimizer.step(closure)
foreign = {"flatmin", "timm", "torchvision", "mlflow", "dvc", "pandas"} & {n.partition(".")[0] for n in sys.modules}
print(optimizer.skipped_steps, ascents(), sorted(foreign))
"""
    shutil.copytree(FOLDER, tmp_path / "lifted", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "lifted" / "__init__.py").write_text("")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "0 ['lifted.ascents.asam'] []"
