"""A sort-based projection onto l1 balls in PyTorch: prints seconds as JSON."""

import json
import sys
import time

import torch

UNITS, FAN_IN = 512, 4608


def project(weights, bound):
    """Projects each row by sorting it (Duchi et al., 2008)."""
    size = weights.abs()
    descending = size.sort(dim=1, descending=True).values
    count = torch.arange(1, weights.shape[1] + 1, dtype=weights.dtype)
    thresholds = (descending.cumsum(dim=1) - bound) / count
    last = (descending > thresholds).sum(dim=1, keepdim=True) - 1
    threshold = thresholds.gather(1, last).clamp(min=0)
    return weights.sign() * (size - threshold).clamp(min=0)


def main(bound, rounds, threads):
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    weights = torch.randn(UNITS, FAN_IN)
    times = []
    with torch.no_grad():
        for _ in range(2 + int(rounds)):
            begin = time.perf_counter()
            projected = project(weights, float(bound))
            times.append(time.perf_counter() - begin)
    assert projected.abs().sum(dim=1).max() <= float(bound) * 1.001
    print(json.dumps(times[2:]))


if __name__ == "__main__":
    main(*sys.argv[1:])
