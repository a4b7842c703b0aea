"""Norm layers whose running statistics stand still, layer class by layer class."""

import copy

import pytest
import torch
from torch import nn

from flatmin.optim.norm_statistics import frozen_statistics, running_statistics

timm_layers = pytest.importorskip("timm.layers.norm_act")

LAYERS = {
    "batch": lambda: nn.BatchNorm2d(3),
    "cumulative": lambda: nn.BatchNorm2d(3, momentum=None),
    "sync": lambda: nn.SyncBatchNorm(3),
    "instance": lambda: nn.InstanceNorm2d(3, track_running_stats=True, affine=True),
    "timm": lambda: timm_layers.BatchNormAct2d(3),
    "timm-sync": lambda: timm_layers.convert_sync_batchnorm(timm_layers.BatchNormAct2d(3)),
}
each_layer = pytest.mark.parametrize("layer", LAYERS)


def images() -> torch.Tensor:
    return 2 + 3 * torch.randn(8, 3, 4, 4)


@each_layer
def test_statistics_stand_still_and_outputs_are_the_same(layer):
    module = LAYERS[layer]()
    module(images())
    twin, inputs = copy.deepcopy(module), images()
    before = [b.clone() for b in running_statistics(module)]
    addresses = [b.data_ptr() for b in running_statistics(module)]
    with frozen_statistics(module):
        frozen = module(inputs)
    after = running_statistics(module)
    assert all(map(torch.equal, after, before))
    assert [b.data_ptr() for b in after] == addresses
    assert torch.equal(frozen, twin(inputs))
    assert not all(map(torch.equal, running_statistics(twin), before))  # without the block they would have moved


@each_layer
def test_evaluation_mode_still_reads_the_running_statistics(layer):
    module, inputs = LAYERS[layer](), images()
    module(images())
    expected = module.eval()(inputs)
    with frozen_statistics(module):
        assert torch.equal(module(inputs), expected)
        module.train()(images())
    module.eval()
    assert torch.equal(module(inputs), expected)


@each_layer
def test_blocks_nest_and_survive_exceptions(layer):
    module = LAYERS[layer]()
    twin = copy.deepcopy(module)
    keys = vars(module).keys()

    def fail() -> None:
        with frozen_statistics(module):
            module(images())
            raise RuntimeError("inside")

    with frozen_statistics(module):
        with pytest.raises(RuntimeError, match="inside"):
            fail()
        module(images())
    assert all(map(torch.equal, module.state_dict().values(), twin.state_dict().values()))
    assert vars(module).keys() == keys
    assert module.track_running_stats
    inputs = images()
    module(inputs)
    twin(inputs)
    assert all(map(torch.equal, module.state_dict().values(), twin.state_dict().values()))


def test_layers_without_statistics_are_left_alone():
    module = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.LayerNorm(3), nn.InstanceNorm1d(3))
    assert running_statistics(module) == []
    with frozen_statistics(module):
        pass
    assert not module[0].track_running_stats


def test_a_layer_used_twice_counts_once():
    layer = nn.BatchNorm1d(3)
    assert len(running_statistics(nn.ModuleList([layer, nn.Sequential(layer)]))) == 3
    with frozen_statistics(nn.ModuleList([layer, nn.Sequential(layer)])):
        assert not layer.track_running_stats
    assert layer.track_running_stats
