"""What the name of a metric or of a parameter tells: if less is better, and if the parameter only repeats."""

import re
from typing import Iterable, Optional

REPEATING = {"seed", "random_seed", "random_state", "fold", "rep", "replicate", "repeat"}
_LESS = re.compile(
    r"(?:^|_)(?:loss|losses|err|error|errors|rmse|mse|mae|mape|nll|perplexity|regret|cost|risk|bias|deviance|residual|"
    r"distance|divergence|kl|aic|bic|wer|cer|fid|brier|logloss|time|seconds|sec|latency|memory)(?:_|$)"
)
_MORE = re.compile(
    r"(?:^|_)(?:acc|accuracy|score|auc|auroc|roc|f1|precision|recall|r2|reward|return|likelihood|llh|elbo|iou|map|bleu|"
    r"rouge|psnr|ssim|dice|gain|throughput|sharpe|profit|correlation|corr)(?:_|$)"
)


def direction_of(metric: str) -> Optional[str]:
    """Return "min" or "max" for a metric whose name says which is better, else None."""
    name = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", metric).lower())
    if _LESS.search(name):
        return "min"
    return "max" if _MORE.search(name) else None


def main_metric(names: Iterable[str]) -> Optional[str]:
    """Return the metric that a reader asks for first: one whose name tells a direction, of a held-out set where there is one."""
    times = re.compile(r"(?i)time|sec|latency|memory|cost")
    held_out = re.compile(r"(?i)val|test|cv|holdout|oos")

    def rank(name: str) -> int:
        return (0 if direction_of(name) and not times.search(name) else 4) + (0 if held_out.search(name) else 1)

    return min(sorted(names), key=rank, default=None)
