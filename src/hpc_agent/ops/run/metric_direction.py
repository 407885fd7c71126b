"""Tell from the name of a metric if its best value is the lowest or the highest."""

from __future__ import annotations

import itertools
import re

LOWEST = frozenset(
    "loss error errors err rmse mae mse mape smape nll ppl perplexity cost regret risk wer cer fid kid distance residual "
    "latency time seconds sec secs ms duration runtime walltime memory mem rss bytes energy misses misclassification deviance "
    "brier ece hinge divergence kl crps aic bic violation violations infeasibility".split()
)
HIGHEST = frozenset(
    "accuracy acc auc auroc auprc ap map precision recall sensitivity specificity f1 fscore r2 reward rewards return returns "
    "bleu rouge meteor iou miou dice psnr ssim likelihood elbo throughput speedup correlation corr pearson spearman kappa mcc "
    "ndcg mrr hits gain profit sharpe win wins success fitness".split()
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def direction_of(name: str) -> str | None:
    """Return "min" or "max"; None where the name has no known word, or words of both kinds. ``neg`` turns it round."""
    words = [word.lower() for word in _WORD.findall(name)]
    known = {*words, *(a + b for a, b in itertools.pairwise(words))}
    found = [name for name, group in (("min", LOWEST), ("max", HIGHEST)) if known & group]
    if not found and known & {"score", "scores"}:
        found = ["max"]
    if len(found) != 1:
        return None
    return {"min": "max", "max": "min"}[found[0]] if known & {"neg", "negative", "minus"} else found[0]
