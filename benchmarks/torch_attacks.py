"""The same attacks as plain PyTorch loops: prints seconds as JSON."""

import json
import math
import sys
import time

import numpy as np
import torch

from benchmarks.torch_training import CLASSES
from benchmarks.torch_training import RANK
from benchmarks.torch_training import PolynomialNet

BATCH_SIZE = 500


class ConvPolynomialNet(torch.nn.Module):
    """PN-Conv of the paper, one convolution an order."""

    def __init__(self, order=4):
        super().__init__()
        self.stem = torch.nn.Conv2d(1, RANK, 3, padding=1)
        self.factors = torch.nn.ModuleList(
            torch.nn.Conv2d(RANK, RANK, 7, padding=3, bias=False)
            for _ in range(order)
        )
        self.output = torch.nn.Linear(RANK * 49, CLASSES)

    def forward(self, images):
        z = self.stem(images)
        x, pools = self.factors[0](z), 0
        for n, factor in enumerate(self.factors[1:], start=2):
            term = factor(z)
            for _ in range(pools):
                term = torch.nn.functional.avg_pool2d(term, 2)
            x = term * x + x
            if n in (2, 3):
                x, pools = torch.nn.functional.avg_pool2d(x, 2), pools + 1
        return self.output(x.flatten(1))


def load(name, arrays):
    """Returns a network with the weights of ours."""

    def tensor(key):
        return torch.from_numpy(arrays[key])

    model = ConvPolynomialNet() if name == "pn_conv" else PolynomialNet(4)
    blocks = tensor("factors").split(RANK, dim=-1)
    output = tensor("output")
    if name == "pn_conv":
        model.stem.weight.data = tensor("stem").permute(3, 2, 0, 1)
        model.stem.bias.data = tensor("stem_bias")
        blocks = [b.permute(3, 2, 0, 1) for b in blocks]
        # Our maps are flattened with the channels last.
        output = output.reshape(7, 7, RANK, CLASSES).permute(2, 0, 1, 3)
        output = output.reshape(-1, CLASSES)
    else:
        blocks = [b.T for b in blocks]
    for factor, block in zip(model.factors, blocks, strict=True):
        factor.weight.data = block.contiguous()
    model.output.weight.data = output.T.contiguous()
    model.output.bias.data = tensor("output_bias")
    return model.requires_grad_(False)


def pgd(model, images, labels, epsilon, steps, step_size):
    x = images.clone()
    for _ in range(steps):
        x.requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        (gradient,) = torch.autograd.grad(loss, x)
        x = x.detach() + step_size * gradient.sign()
        x = images + torch.clamp(x - images, -epsilon, epsilon)
        x = torch.clamp(x, -1, 1)
    return x


def targeted_dlr(logits, labels, targets):
    ordered = logits.sort(dim=1)[0]
    rows = torch.arange(len(logits))
    spread = ordered[:, -1] - 0.5 * (ordered[:, -3] + ordered[:, -4])
    return -(logits[rows, labels] - logits[rows, targets]) / (spread + 1e-12)


def apgd_of_likeliest(model, images, labels, epsilon, steps):
    """APGD-T against the likeliest wrong class, on the images still right."""
    clean = model(images)
    right = clean.argmax(dim=1) == labels
    wrong = clean.clone()
    wrong[torch.arange(len(labels)), labels] = -math.inf
    adversarial = images.clone()
    adversarial[right] = apgd_run(
        model,
        images[right],
        labels[right],
        wrong.argmax(dim=1)[right],
        epsilon,
        steps,
    )
    return adversarial


def apgd_run(model, images, labels, targets, epsilon, steps):
    def evaluate(x):
        x = x.detach().requires_grad_(True)
        logits = model(x)
        losses = targeted_dlr(logits, labels, targets)
        (gradient,) = torch.autograd.grad(losses.sum(), x)
        return losses.detach(), gradient, logits.argmax(dim=1) != labels

    def projected(x):
        x = torch.min(torch.max(x, images - epsilon), images + epsilon)
        return torch.clamp(x, -1, 1)

    def column(values):
        return values.reshape(-1, 1, 1, 1)

    checks, low, high = set(), 0, 22
    while high < 100:
        checks.add(math.ceil(high * steps / 100))
        low, high = high, high + max(high - low - 3, 6)
    x = projected(images + epsilon * (2 * torch.rand_like(images) - 1))
    loss, gradient, broken = evaluate(x)
    found, best, best_loss, best_gradient = x, x, loss, gradient
    previous, size = x, torch.full_like(loss, 2 * epsilon)
    rises, last, halved = torch.zeros_like(loss), 0, torch.zeros_like(broken)
    checked = loss
    for k in range(steps):
        z = projected(x + column(size) * gradient.sign())
        weight = 0.75 if k else 1.0
        new = x + weight * (z - x) + (1 - weight) * (x - previous)
        previous, x = x, projected(new)
        before = loss
        loss, gradient, wrong = evaluate(x)
        found = torch.where(column(wrong & ~broken), x, found)
        broken = broken | wrong
        rises += loss > before
        better = loss > best_loss
        best = torch.where(column(better), x, best)
        best_gradient = torch.where(column(better), gradient, best_gradient)
        best_loss = torch.where(better, loss, best_loss)
        if k + 1 in checks or k + 1 == steps:
            few = rises < 0.75 * (k + 1 - last)
            halved = few | (~halved & (best_loss <= checked))
            size = torch.where(halved, size / 2, size)
            x = torch.where(column(halved), best, x)
            gradient = torch.where(column(halved), best_gradient, gradient)
            loss = torch.where(halved, best_loss, loss)
            checked, last, rises = best_loss, k + 1, torch.zeros_like(rises)
    return torch.where(column(broken), found, best)


ATTACKS = {
    "pgd": lambda model, x, y: pgd(model, x, y, 0.1, 20, 0.01),
    "apgd_t": lambda model, x, y: apgd_of_likeliest(model, x, y, 0.1, 100),
}


def main(name, attack, path, rounds, threads):
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    arrays = np.load(path, allow_pickle=False)
    model = load(name, arrays)
    images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(arrays["labels"]).long()
    times = []
    for _ in range(int(rounds)):
        begin, right = time.perf_counter(), 0
        for x, y in zip(
            images.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True
        ):
            adversarial = ATTACKS[attack](model, x, y)
            right += int((model(adversarial).argmax(dim=1) == y).sum())
        times.append(time.perf_counter() - begin)
    print(json.dumps({"seconds": times, "accuracy": right / len(labels)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
