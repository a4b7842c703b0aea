"""How fast SAM trains a convolutional network under three memory settings of a worker process, one thread each.

    python benchmarks/worker_memory.py

Every setting runs in a process of its own, in turn, three times; compare the ratios, not machines. On two cores of an
AMD EPYC (Zen 4) with torch 2.14.1 flatmin's setting trained 1.59 to 1.72 times as many images per second as Dask's
default (4,720 to 4,972 against 2,884 to 2,984 image gradients), with some hundred page faults in place of 1.1 million.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

from flatmin.executor import WORKER_ENVIRONMENT

SETTINGS = {
    "glibc's default": {},
    "Dask's default": {"MALLOC_TRIM_THRESHOLD_": "65536"},
    "flatmin's": {name: value for name, value in WORKER_ENVIRONMENT.items() if name.startswith("MALLOC")},
}
STEPS, BATCH = 60, 128


def train() -> None:
    """Train cifar_cnn by SAM on random images and print the speed."""
    import torch

    from flatmin.models.build import build
    from flatmin.optim import SAM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layout = torch.channels_last
    model = build("cifar_cnn", num_classes=10, in_chans=3, img_size=32).to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = SAM(model, torch.optim.SGD, rho=0.1, lr=0.05, momentum=0.9, fused=True)
    images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=layout)
    labels = torch.randint(10, (BATCH,))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    for _ in range(STEPS):
        optimizer.step(closure)
    speed = 2 * BATCH * STEPS / (time.perf_counter() - start)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    print(f"{speed:8,.0f} image gradients per second, {faults:9,} page faults")


def main() -> None:
    """Compare the settings."""
    for _ in range(3):
        for name, setting in SETTINGS.items():
            print(f"{name:18}", end="", flush=True)
            environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC")}
            subprocess.run([sys.executable, __file__, "--train"], env={**environment, **setting}, check=True)


if __name__ == "__main__":
    train() if "--train" in sys.argv else main()
