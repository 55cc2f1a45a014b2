"""The numbers by which two engines' distributions are compared, and their bounds (.specs/engine-numerics.md, agreement). Pure."""

import numpy as np

import engines

# Three times what was measured or tighter: .docs/decisions/0008-agreement-bounds.md, .docs/benchmarks/agreement.md.
UPPER = {"mean_kl": 7e-3, "p99_kl": 3e-2, "max_kl": 0.1, "widest_missed_margin": 0.8, "delta_ln_ppl": 3e-3, "reference_ratio": 1.25}
LOWER = {"top1_share": 0.93, "untied_top1_share": 0.99, "clear_top1_share": 1.0}
NEAR_TIE_NATS = 0.2  # llama.cpp's first two are no further apart than this
JUDGED_BEST = 8  # of these the largest difference of log-probabilities is taken


def bucketed(log_probabilities):
    """Probabilities and one bucket for the rest."""
    p = np.exp(log_probabilities)
    return np.append(p, max(1e-9, 1 - p.sum()))


def divergence(p_log, q_log):
    """KL in nat of two distributions known at the same ids; a lower bound of the whole one."""
    p, q = bucketed(p_log), bucketed(q_log)
    return float((p * np.log(p / np.maximum(q, 1e-12))).sum())


def aligned(place, other):
    """(their log-probabilities, the other's at the same ids, the other's best id, the other's of the next token). `other` is a whole
    row of log-probabilities with the next token's id, or llama.cpp's place in another configuration, of which the common ids count."""
    if isinstance(other, engines.Place):
        _, left, right = np.intersect1d(place.ids, other.ids, assume_unique=True, return_indices=True)
        order = np.argsort(left)
        return place.log[left[order]], other.log[right[order]], int(other.ids[0]), other.next_log
    row, following = other
    return place.log, row[place.ids], int(row.argmax()), float(row[following])


def judge_place(place, other, exact=None):
    theirs, ours, best, next_log = aligned(place, other)
    first = min(JUDGED_BEST, len(theirs))
    row = {"kl": divergence(theirs, ours), "top1": best == int(place.ids[0]), "margin": float(place.log[0] - place.log[1]),
           "difference": float(np.abs(theirs[:first] - ours[:first]).max()), "rest": float(max(0, 1 - np.exp(place.log).sum())),
           "ours": next_log, "theirs": place.next_log}
    if exact is not None:
        e = exact[place.ids]
        row |= {"kl_exact_theirs": divergence(e, place.log)}
        if not isinstance(other, engines.Place):
            row |= {"kl_exact_ours": divergence(e, ours)}
    return row


def judge_text(text, places, ours, exact=None):
    """Rows of one text. `ours` is an array by position or a list of places of the same positions."""
    rows = []
    for k, place in enumerate(places):
        other = ours[k] if isinstance(ours, list) else (ours[place.position], text.ids[place.position + 1])
        rows.append(judge_place(place, other, None if exact is None else exact[place.position]))
    return rows


def perplexity(rows):
    """Difference of ln PPL between ours and theirs, its standard error, and ln PPL of theirs."""
    gap = np.array([r["theirs"] - r["ours"] for r in rows])
    return {"ppl_tokens": len(rows), "ln_ppl_theirs": -np.mean([r["theirs"] for r in rows]), "signed_delta_ln_ppl": gap.mean(),
            "delta_ln_ppl": abs(gap.mean()), "delta_ln_ppl_error": gap.std() / np.sqrt(len(rows))}


def summary(rows):
    kl = np.array([r["kl"] for r in rows])
    largest = max(r["difference"] for r in rows)
    untied = [r["top1"] for r in rows if r["margin"] > NEAR_TIE_NATS]
    clear = [r["top1"] for r in rows if r["margin"] > 2 * largest]
    out = {"positions": len(rows), "mean_kl": kl.mean(), "p99_kl": np.quantile(kl, 0.99), "max_kl": kl.max(), "top1_share": np.mean([r["top1"] for r in rows]),
           "widest_missed_margin": max((r["margin"] for r in rows if not r["top1"]), default=0.0),
           "untied_positions": len(untied), "untied_top1_share": np.mean(untied) if untied else 1.0,
           "clear_positions": len(clear), "clear_top1_share": np.mean(clear) if clear else 1.0,
           "largest_log_probability_difference": largest, "mean_rest_mass": np.mean([r["rest"] for r in rows])}
    exact = [r for r in rows if "kl_exact_ours" in r]
    if exact:
        ours, theirs = np.array([r["kl_exact_ours"] for r in exact]), np.array([r["kl_exact_theirs"] for r in exact])
        ratio = ours.mean() / theirs.mean()
        out |= {"reference_positions": len(exact), "kl_exact_ours": ours.mean(), "kl_exact_theirs": theirs.mean(), "reference_ratio": ratio,
                "reference_ratio_error": np.std(ours - ratio * theirs) / np.sqrt(len(exact)) / theirs.mean()}
    return out


def rounded(result):
    return {k: v if isinstance(v, int) else round(float(v), 6) for k, v in result.items()}


def violations(result):
    """Which bounds a summary (with or without perplexity) breaks, as sentences."""
    found = [f"{k} {result[k]:.6f} > {bound}" for k, bound in UPPER.items() if k in result and not result[k] <= bound]
    return found + [f"{k} {result[k]:.4f} < {bound}" for k, bound in LOWER.items() if not result[k] >= bound]
