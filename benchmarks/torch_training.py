"""The same network as a plain PyTorch loop: prints seconds an epoch as JSON."""

import json
import sys
import time

import torch

EXAMPLES, BATCH_SIZE, RANK, CLASSES = 60_000, 64, 16, 10


class PolynomialNet(torch.nn.Module):
    """CCP of the paper out of Linear layers, one an order."""

    def __init__(self, order, size=784):
        super().__init__()
        self.factors = torch.nn.ModuleList(
            torch.nn.Linear(size, RANK, bias=False) for _ in range(order)
        )
        self.output = torch.nn.Linear(RANK, CLASSES)

    def forward(self, images):
        z = images.flatten(1)
        x = self.factors[0](z)
        for factor in self.factors[1:]:
            x = factor(z) * x + x
        return self.output(x)


def batches_of_tensors(x, y):
    """Yields the batches of one epoch, gathered from memory."""
    for chosen in torch.randperm(EXAMPLES, device=x.device).split(BATCH_SIZE):
        yield x[chosen], y[chosen]


def epoch_seconds(model, optimizer, batches):
    begin = time.perf_counter()
    for x, y in batches:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    loss.item()
    return time.perf_counter() - begin


def main(order, epochs, threads, device):
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    x = torch.rand(EXAMPLES, 1, 28, 28, device=device) * 2 - 1
    y = torch.randint(0, CLASSES, (EXAMPLES,), device=device)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), BATCH_SIZE, shuffle=True
    )
    model = PolynomialNet(int(order)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    times = {"tensors": [], "loader": []}
    epoch_seconds(model, optimizer, batches_of_tensors(x, y))
    for _ in range(int(epochs)):
        times["tensors"].append(
            epoch_seconds(model, optimizer, batches_of_tensors(x, y))
        )
        times["loader"].append(epoch_seconds(model, optimizer, loader))
    print(json.dumps(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
