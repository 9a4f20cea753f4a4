"""Means and tables of what `training.denoise` has measured."""

import numpy as np


def summary(results, first, others):
    """Returns a row a level: means and deviations over the seeds.

    Args:
        results: What `Experiment.run` of `training.denoise` returns.
        first: The name of the model whose gain is reported.
        others: The names of the models over which it gains.
    """
    rows = []
    for condition in results:
        for level, found in condition["levels"].items():
            row = {
                "set": condition["set"],
                "noise": condition["noise"],
                "level": float(level),
                "noisy": {k: found["noisy"][k] for k in ("psnr", "ssim")},
            }
            for name in (first, *others):
                row[name] = {
                    key: _mean([run[key] for run in found[name]])
                    for key in ("psnr", "ssim")
                }
            for name in others:
                pairs = zip(found[first], found[name], strict=True)
                row[f"gain over {name}"] = _mean(
                    [
                        None
                        if None in (a["psnr"], b["psnr"])
                        else a["psnr"] - b["psnr"]
                        for a, b in pairs
                    ]
                )
            rows.append(row)
    return rows


def _mean(values):
    """Returns mean and deviation of the runs that did not diverge."""
    whole = [v for v in values if v is not None]
    return {
        "mean": float(np.mean(whole)) if whole else None,
        "deviation": float(np.std(whole, ddof=1)) if len(whole) > 1 else None,
        "diverged": len(values) - len(whole),
    }


def markdown(rows, first, others):
    """Returns the table of the summary."""
    gains = [f"gain over {name}" for name in others]
    heads = ["set", "noise", "noisy", first, *others, *gains]
    lines = ["| " + " | ".join(heads) + " |"]
    lines.append("|---|---|" + "---:|" * (len(heads) - 2))
    for row in rows:
        noisy = f"{row['noisy']['psnr']:.2f}, {row['noisy']['ssim']:.3f}"
        cells = [row["set"], f"{row['noise']} {row['level']:g}", noisy]
        cells += [
            f"{_say(row[n]['psnr'], 2)}, {_say(row[n]['ssim'], 3)}"
            for n in (first, *others)
        ]
        cells += [_say(row[name], 2) for name in gains]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _say(found, digits):
    if found["mean"] is None:
        return "diverged"
    text = f"{found['mean']:.{digits}f}"
    if found["deviation"] is not None:
        text += f" ± {found['deviation']:.{digits}f}"
    return text + (f" ({found['diverged']} diverged)" * bool(found["diverged"]))
