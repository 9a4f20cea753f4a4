"""Convolutional networks written plainly in PyTorch: seconds a step as JSON."""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional

CLASSES, SIZE = 10, 32


def convolution(channels, filters, window=3, stride=1, bias=False):
    return nn.Conv2d(channels, filters, window, stride, window // 2, bias=bias)


class Quadratic(nn.Module):
    """The neurons of Fan et al. with three convolutions."""

    def __init__(self, channels, filters, stride=1):
        super().__init__()
        self.r, self.g, self.b = (
            convolution(channels, filters, stride=stride, bias=True)
            for _ in range(3)
        )

    def forward(self, x):
        return self.r(x) * self.g(x) + self.b(x**2)


class QuadraLib(nn.Module):
    """The neurons of QuadraLib, a batch normalisation on each branch."""

    def __init__(self, channels, filters):
        super().__init__()
        self.a, self.b, self.c = (
            nn.Sequential(
                convolution(channels, filters, bias=True),
                nn.BatchNorm2d(filters),
            )
            for _ in range(3)
        )

    def forward(self, x):
        return self.a(x) * self.b(x) + self.c(x)


class PaddedBlock(nn.Module):
    """A block of the CIFAR networks, its shortcut padded with zeros."""

    def __init__(self, channels, filters, stride, neurons):
        super().__init__()
        self.stride, self.extra = stride, filters - channels
        self.conv1 = neurons(channels, filters, stride=stride)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = neurons(filters, filters)
        self.norm2 = nn.BatchNorm2d(filters)

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.extra:
            x = x[:, :, :: self.stride, :: self.stride]
            half = self.extra // 2
            x = functional.pad(x, (0, 0, 0, 0, half, self.extra - half))
        return functional.relu(y + x)


class ProductBlock(nn.Module):
    """A block of a Prodpoly-ResNet: y = s + F + L(F * X(s))."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.conv1 = convolution(channels, filters, stride=stride)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = convolution(filters, filters)
        self.norm2 = nn.BatchNorm2d(filters)
        self.shortcut = nn.Identity()
        if stride > 1 or channels != filters:
            self.shortcut = nn.Sequential(
                convolution(channels, filters, 1, stride),
                nn.BatchNorm2d(filters),
            )
        self.operand = convolution(filters, filters, 1)
        self.product = convolution(filters, filters, 1)

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        s = self.shortcut(x)
        return functional.relu(s + y + self.product(y * self.operand(s)))


def residual(stages, block, width, neurons_of_stem=convolution):
    """Returns a stem, stages of blocks, pooling and the head."""
    layers = [neurons_of_stem(3, width), nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for stage, count in enumerate(stages):
        filters = width * 2**stage
        for index in range(count):
            stride = 2 if stage and not index else 1
            layers.append(block(channels, filters, stride))
            channels = filters
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels, CLASSES))


def padded(neurons):
    """Returns the CIFAR network of 20 layers with these neurons."""

    def block(channels, filters, stride):
        return PaddedBlock(channels, filters, stride, neurons)

    return residual((3, 3, 3), block, 16)


def vgg7():
    layers, channels = [], 3
    for entry in (64, 64, "M", 128, 128, "M", 256, "M", 512, "M", 512, "M"):
        if entry == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [QuadraLib(channels, entry), nn.BatchNorm2d(entry)]
        layers.append(nn.ReLU())
        channels = entry
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, CLASSES))


NETWORKS = {
    "qresnet20": lambda: padded(Quadratic),
    "quadratic_vgg7": vgg7,
    "prodpoly_resnet18": lambda: residual((2, 2, 1, 1), ProductBlock, 64),
}
LAYOUTS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


def main(name, batch_size, steps, threads, device):
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    found = {"parameters": None}
    for label, layout in LAYOUTS.items():
        model = NETWORKS[name]().to(device, memory_format=layout)
        found["parameters"] = sum(p.numel() for p in model.parameters())
        x = torch.rand(int(batch_size), 3, SIZE, SIZE, device=device) * 2 - 1
        x = x.contiguous(memory_format=layout)
        y = torch.randint(0, CLASSES, (int(batch_size),), device=device)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        found[label] = [
            step_seconds(model, optimizer, x, y) for _ in range(2 + int(steps))
        ][2:]
    print(json.dumps(found))


def step_seconds(model, optimizer, x, y):
    begin = time.perf_counter()
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    loss.item()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main(*sys.argv[1:])
