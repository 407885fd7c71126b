"""What the name of a metric or of a parameter tells: if less is better, and if the parameter only repeats."""

import re
from typing import Iterable, Optional

REPEATING = {"seed", "random_seed", "random_state", "fold", "rep", "replicate", "repeat"}
LOWEST = frozenset(
    "loss error errors err rmse mae mse mape smape nll ppl perplexity cost regret risk wer cer fid kid distance residual "
    "latency time seconds sec secs ms duration runtime walltime memory mem rss bytes energy misses misclassification deviance "
    "brier ece hinge logloss divergence kl crps aic bic violation violations infeasibility".split()
)
HIGHEST = frozenset(
    "accuracy acc auc auroc auprc ap map precision recall sensitivity specificity f1 fscore r2 reward rewards return returns "
    "bleu rouge meteor iou miou dice psnr ssim likelihood elbo throughput speedup correlation corr pearson spearman kappa mcc "
    "ndcg mrr hits gain profit sharpe win wins success fitness".split()
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_COST = re.compile(r"(?i)time|sec|latency|memory|cost|bytes|duration")
_HELD_OUT = re.compile(r"(?i)val|test|cv|holdout|oos")


def direction_of(name: str) -> Optional[str]:
    """Return "min" or "max"; None where the name has no known word, or words of both kinds. ``neg`` turns it round."""
    words = [word.lower() for word in _WORD.findall(name)]
    known = {*words, *(words[at] + words[at + 1] for at in range(len(words) - 1))}
    found = [direction for direction, group in (("min", LOWEST), ("max", HIGHEST)) if known & group]
    if not found and known & {"score", "scores"}:
        found = ["max"]
    if len(found) != 1:
        return None
    return {"min": "max", "max": "min"}[found[0]] if known & {"neg", "negative", "minus"} else found[0]


# The words of the manifest of a campaign.
LONG_WORDS = {"min": "minimize", "max": "maximize"}


def best_end(given: Optional[str], name: Optional[str] = None) -> Optional[str]:
    """Return "min" or "max", the end where the best value is, from "min", "minimize", "max" or "maximize".

    Without a direction (None or "auto") the name of the metric tells; None where it does not.
    """
    if given in (None, "auto"):
        return direction_of(name) if name else None
    return str(given)[:3]


def sign_of(direction: str) -> int:
    """Return 1 where the lowest value is the best, else -1: values times this number are to be minimised."""
    return 1 if best_end(direction) == "min" else -1


def main_metric(names: Iterable[str]) -> Optional[str]:
    """Return the metric that a reader asks for first: one whose name tells a direction, of a held-out set where there is one."""

    def rank(name: str) -> int:
        return (0 if direction_of(name) and not _COST.search(name) else 2) + (0 if _HELD_OUT.search(name) else 1)

    return min(sorted(names), key=rank, default=None)
