"""The sentences of a study's comparison: the only place of their wording."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reidbench import Comparison, Pair, Study

_MOST_NAMED = 6  # losses in a sentence; pairs with a sentence each


def notes(comparison: Comparison, study: Study) -> Iterator[str]:
    """Yield the sentences below a study's table: the best, the pairs, what to be careful with, what is covered."""
    yield best(comparison, study)
    if len(comparison.pairs) <= _MOST_NAMED:
        yield from (difference(pair, comparison, study) for pair in comparison.pairs)
    elif comparison.claims:
        apart = sum(pair.verdict != "not told apart" for pair in comparison.pairs)
        yield f"{_found(study, start=True)}{apart} of {len(comparison.pairs)} pairs are told apart (Holm over all)."
    if study.against and (comparison.claims or len(comparison.compared) < 2):
        yield against(comparison, study)
    by_scores: dict[tuple[float, ...], list[str]] = {}
    for loss in comparison.compared:
        by_scores.setdefault(loss.scores, []).append(loss.name)
    for names in by_scores.values():
        if len(names) > 1:
            yield f"{' and '.join(names)} have equal scores in every seed: are they two spellings of one loss?"
    for loss in comparison.losses:
        if loss.outside and loss.name != "none":
            yield f"{loss.name} is in no comparison: {loss.outside}."
        if loss.seeds_vary_more:
            sds = f"sd {100 * (loss.sd or 0):.2f} points, all losses together {100 * comparison.pooled**0.5:.2f}"
            yield f"The seeds of {loss.name} vary more than those of others ({sds}): its intervals may be too narrow."
    yield from foot(comparison, study)


def best(comparison: Comparison, study: Study) -> str:
    """Return the headline: which losses may be the best."""
    names = [loss.name for loss in comparison.compared if loss.may_be_best]
    count = len(comparison.compared)
    if len(names) == 1:
        return f"{names[0]} alone may be the best of these {count} losses{_found(study)} (95 %)."
    if len(names) > _MOST_NAMED:
        return (
            f"The best of these {count} losses{_found(study)} is among {len(names)} (95 %): see the column may be best."
        )
    if names:
        return f"The best of these {count} losses{_found(study)} is among: {', '.join(names)} (95 %)."
    if len(comparison.compared) < 2:
        return "Fewer than two losses can be compared."
    if comparison.identities < 2:
        return "All queries are of one identity, so no difference can be tested."
    few = "One seed" if comparison.freedom == 0 else f"{_seeds(comparison)}, too few to estimate their variance"
    return f"{few}: these checkpoints only, not the losses."


def difference(pair: Pair, comparison: Comparison, study: Study) -> str:
    """Return a pair's difference with its interval and what the family of all pairs says of it."""
    low, high = (100 * end for end in pair.interval)
    over = _seeds(comparison) if comparison.claims else "these checkpoints"
    text = (
        f"{_found(study, start=True)}{pair.a} - {pair.b}: {100 * pair.difference:+.2f} points, 95 % interval by itself "
        f"{low:+.2f} to {high:+.2f} ({over}, {comparison.identities} identities)."
    )
    if pair.verdict in ("", "not told apart"):
        return f"{text} {pair.verdict.capitalize()}." if pair.verdict else text
    better, worse = (pair.a, pair.b) if pair.verdict == "better" else (pair.b, pair.a)
    return f"{text} {better} is better than {worse} (Holm over {len(comparison.pairs)} pairs)."


def against(comparison: Comparison, study: Study) -> str:
    """Return the verdicts on the other losses in the family of the reference; of many their counts."""
    verdicts: dict[str, list[str]] = {}
    for name, pair in comparison.against.items():
        verdicts.setdefault(pair.verdict, []).append(name)
    if not verdicts:
        return f"No loss can be compared with {study.against}, which was named beforehand."
    count = len(comparison.against)
    if count > _MOST_NAMED:
        groups = ", ".join(f"{verdict} {len(names)}" for verdict, names in sorted(verdicts.items()))
    else:
        groups = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in sorted(verdicts.items()))
    text = f"gainst {study.against} (named beforehand, Holm over {count}): {groups}."
    return f"{found}a{text}" if (found := _found(study, start=True)) else f"A{text}"


def foot(comparison: Comparison, study: Study) -> Iterator[str]:
    """Yield what intervals and verdicts cover, and the gap that this study finds."""
    if comparison.claims:
        searched = "training seeds, searches" if study.searches > 1 else "training seeds"
        other = "another search, " if study.searches == 1 else "" if study.searches else "other options, "
        yield (
            f"Covers {searched} and query identities. Does not cover: {other}other training identities, other data, "
            "longer training. Not told apart does not mean equal."
        )
        gap = 100 * (comparison.detectable_gap or 0)
        options = " and the options found" if _found(study) else ""
        yield f"With {_seeds(comparison)}{options} a gap of {gap:.2f} points is found in 80 % of studies."


def _seeds(comparison: Comparison) -> str:
    counts = sorted({len(loss.scores) for loss in comparison.compared})
    return f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seed{'s' * (counts[-1] > 1)}"


def _found(study: Study, *, start: bool = False) -> str:
    """Return the reservation of a study whose seeds share one search, for the middle or the start of a sentence."""
    if not study.trials or study.searches != 1:
        return ""
    return "With the options found, " if start else ", with the options found,"
