"""Two replicas of a model, in processes of their own, against one process with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import replica_worker
import torch
from filelock import FileLock
from replica_worker import MAY_BE_LOCAL, METHODS, PER_REPLICA, REGIMES, batch, normalised, smooth, train
from torch import Tensor

from flatmin.optim import Regime

Results = list[dict[Any, Any]]

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Results:
    """What each replica made of each case: all from one launch, which takes most of the time."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "replicas"  # shared by the workers of one run
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            launch(folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def launch(folder: Path) -> None:
    folder.mkdir()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    done = subprocess.run(
        [*launcher, replica_worker.__file__, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def distance(left: list[Tensor], right: list[Tensor]) -> float:
    return max((ours - theirs).abs().max().item() for ours, theirs in zip(left, right, strict=True))


def in_one_process(method: str, **regime: Any) -> list[Tensor]:
    model = smooth()
    return train(model, METHODS[method](model, regime=Regime(**regime)), *batch())


ONE_ASCENT = [
    *(("synced", method, "") for method in METHODS if method != "esam"),
    *(("synced", "sam", name) for name in REGIMES if name),
    *(("views", method, "") for method in ("sam", "gsam", "looksam")),
    ("two-calls", "sam", ""),
]
ASCENTS_APART = [("local", method, name) for method in MAY_BE_LOCAL for name in REGIMES]


@pytest.mark.parametrize("case", ONE_ASCENT, ids="-".join)
def test_synced_replicas_are_one_process_with_the_whole_batch(case, results):
    _, method, regime = case
    assert distance(results[0][case], in_one_process(method, **REGIMES[regime])) < 1e-12


@pytest.mark.parametrize("case", ASCENTS_APART, ids="-".join)
def test_local_perturbations_are_m_sharpness_with_the_images_of_a_replica(case, results):
    _, method, regime = case
    # parts draw a random direction each, and replicas draw the same one
    m = 0 if method == "random" else PER_REPLICA
    assert distance(results[0][case], in_one_process(method, **REGIMES[regime], m=m)) < 1e-12


@pytest.mark.parametrize("case", [*ONE_ASCENT, *ASCENTS_APART, ("synced", "esam", "")], ids="-".join)
def test_replicas_end_with_the_same_weights_to_the_bit(case, results):
    assert all(map(torch.equal, results[0][case], results[1][case]))


def test_local_and_synced_perturbations_differ(results):
    assert distance(results[0]["local", "sam", ""], results[0]["synced", "sam", ""]) > 1e-4


@pytest.mark.parametrize("perturbation", ["synced", "local"])
@pytest.mark.parametrize("where", ["gradient", "loss"])
@pytest.mark.parametrize("bad_pass", [0, 1])
def test_replicas_skip_a_step_together(perturbation, where, bad_pass, results):
    found = [result["poisoned", perturbation, where, bad_pass] for result in results]
    for replica in found:
        assert replica["calls"] == bad_pass + 1
        assert replica["counted"] == (1, True)
        assert replica["unchanged"]
        assert replica["moved again"]
    assert all(map(torch.equal, found[0]["afterwards"], found[1]["afterwards"]))


def test_batch_norm_normalises_over_the_images_of_a_replica(results):
    model = normalised()
    whole = train(model, METHODS["sam"](model), *batch())
    found = [result["batch norm"] for result in results]
    difference = distance(found[0]["parameters"], whole)
    assert difference > 1e-4, f"weights differ by {difference:.1e} at most"
    assert all(map(torch.equal, found[0]["parameters"], found[1]["parameters"]))
    assert [replica["batches"] for replica in found] == [replica_worker.STEPS] * 2


@pytest.mark.parametrize("method", ["gsam", "looksam"])
def test_methods_that_compare_both_gradients_refuse_local_perturbations(method, results):
    kind, message = results[0]["refused", "local", method]
    assert kind == "ValueError"
    assert message == f"{method} needs the clean gradient of all replicas: set perturbation='synced'"


@pytest.mark.parametrize("how", ["compiled", "inside"])
def test_a_replica_is_known_as_one_when_another_module_holds_it(how, results):
    """Or it would skip alone and leave the others waiting, and a local perturbation would be none."""
    assert results[0]["refused", "local", how] == results[0]["refused", "local", "gsam"]


@pytest.mark.parametrize(
    ("how", "which"),
    [
        ("fully_shard", "parameter '1.weight'"),
        ("parameters", "a parameter of shape (8, 108)"),
        ("distribute_tensor", "parameter 'w'"),
    ],
)
def test_sharded_parameters_are_refused(how, which, results):
    kind, message = results[0]["refused", "sharded", how]
    assert kind == "TypeError"
    assert message.startswith(f"{which} is a DTensor: sharded parameters")
    assert message.endswith("Use DistributedDataParallel")


@pytest.mark.parametrize("where", [(), ("inside",)], ids=["itself", "inside"])
def test_flattened_shards_are_refused(where, results):
    kind, message = results[0]["refused", "flat", *where]
    assert (kind, message) == (
        "TypeError",
        "FullyShardedDataParallel is not supported: use DistributedDataParallel",
    )
