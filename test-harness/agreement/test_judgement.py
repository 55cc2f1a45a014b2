"""The judge itself: equal distributions are green, and each bound turns red on its own."""

import numpy as np
import pytest

import engines
import judgement

GREEN = {name: 0 for name in judgement.UPPER} | {name: 1.0 for name in judgement.LOWER}


def row_of(logits):
    return engines.log_softmax(np.array(logits, dtype=np.float32))


def place_of(row, best=3, following=0):
    ids = np.argsort(-row)[:best]
    return engines.Place(0, ids, row[ids], float(row[following]))


def test_OC_NUM_1502_equal_distributions_have_no_distance():
    row = row_of([3, 1, 2, 0, -1])
    judged = judgement.judge_place(place_of(row), (row, 0), row)
    assert judged["kl"] == pytest.approx(0, abs=1e-12) and judged["top1"] and judged["ours"] == judged["theirs"]
    assert judged["kl_exact_ours"] == pytest.approx(judged["kl_exact_theirs"])


def test_OC_NUM_1502_the_distance_is_the_divergence_with_a_rest_bucket():
    p, q = row_of([2, 1, 0, 0]), row_of([1, 2, 0, 0])
    judged = judgement.judge_place(place_of(p, best=2), (q, 1))
    left, right = np.append(np.exp(p[:2]), np.exp(p[2:]).sum()), np.append(np.exp(q[:2]), np.exp(q[2:]).sum())
    assert judged["kl"] == pytest.approx((left * np.log(left / right)).sum()) and judged["kl"] > 0.1
    assert not judged["top1"] and judged["margin"] == pytest.approx(1) and judged["difference"] == pytest.approx(1)


def test_OC_NUM_1502_two_places_are_compared_where_both_name_an_id():
    p, q = row_of([3, 2, 1, 0]), row_of([3, 0, 1, 2])
    left, right = place_of(p, best=2), place_of(q, best=3)
    theirs, others, best, _ = judgement.aligned(left, right)
    assert theirs == pytest.approx([p[0]]) and others == pytest.approx([q[0]]) and best == 0


def test_OC_NUM_1502_green_is_green():
    assert judgement.violations(GREEN) == []


@pytest.mark.parametrize("change", [{name: bound * 1.01} for name, bound in judgement.UPPER.items()] +
                         [{name: bound - 0.001} for name, bound in judgement.LOWER.items()] +
                         [{name: float("nan")} for name in judgement.UPPER | judgement.LOWER], ids=str)
def test_OC_NUM_1502_OC_NUM_1503_each_bound_is_red_alone(change):
    assert len(judgement.violations(GREEN | change)) == 1


def test_OC_NUM_1502_first_choices_are_counted_by_margin():
    rows = [{"kl": 0, "difference": 0.25, "margin": margin, "top1": top1, "rest": 0} for margin, top1 in [(0.1, False), (0.3, False), (0.3, True), (0.6, True)]]
    result = judgement.summary(rows)
    assert result["top1_share"] == 0.5 and result["widest_missed_margin"] == 0.3
    assert (result["untied_positions"], result["untied_top1_share"]) == (3, pytest.approx(2 / 3))
    assert (result["clear_positions"], result["clear_top1_share"]) == (1, 1.0)


def test_OC_NUM_1503_the_ratio_is_of_means():
    rows = [{"kl": 0, "difference": 0, "margin": 1, "top1": True, "rest": 0, "kl_exact_ours": a, "kl_exact_theirs": b} for a, b in [(1, 2), (3, 2)]]
    assert judgement.summary(rows)["reference_ratio"] == pytest.approx(1.0)


def test_OC_NUM_1502_perplexity_is_of_the_following_tokens():
    rows = [{"theirs": -1.0, "ours": -1.2}, {"theirs": -2.0, "ours": -1.9}]
    result = judgement.perplexity(rows)
    assert result["delta_ln_ppl"] == pytest.approx(0.05) and result["signed_delta_ln_ppl"] == pytest.approx(0.05)
    assert result["ln_ppl_theirs"] == pytest.approx(1.5)
