"""Typical mistakes in the exercises of chapter 15."""

import dataclasses
import itertools
import math
import statistics

from mrcnn_edu.ablations.intervals import T_95
from mrcnn_edu.checks.ch15_runs import right_differences
from mrcnn_edu.model import MaskRCNN

# ---------------------------------------------------------------- 15.1


def _interval(first, second, half, pair=None, sign=1):
    seeds = sorted(first.keys() & second.keys())
    d = pair(first, second) if pair else [sign * (first[s] - second[s]) for s in seeds]
    mean = statistics.fmean(d)
    if len(d) < 2:
        return mean, -math.inf, math.inf
    h = half(d)
    return mean, mean - h, mean + h


def _right_half(d):
    return T_95[len(d) - 2] * statistics.stdev(d) / math.sqrt(len(d))


def normal_quantile(first, second):
    return _interval(first, second, lambda d: 1.96 * statistics.stdev(d) / math.sqrt(len(d)))


def one_place_off(first, second):
    return _interval(
        first, second, lambda d: T_95[len(d) - 1] * statistics.stdev(d) / math.sqrt(len(d))
    )


def of_one_run(first, second):
    return _interval(first, second, lambda d: T_95[len(d) - 2] * statistics.stdev(d))


def divided_by_n(first, second):
    return _interval(first, second, lambda d: T_95[len(d) - 2] * statistics.stdev(d) / len(d))


def population(first, second):
    return _interval(
        first, second, lambda d: T_95[len(d) - 2] * statistics.pstdev(d) / math.sqrt(len(d))
    )


def second_minus_first(first, second):
    return _interval(first, second, _right_half, sign=-1)


def not_paired(first, second):
    seeds = sorted(first.keys() & second.keys())
    a, b = [first[s] for s in seeds], [second[s] for s in seeds]
    mean = statistics.fmean(a) - statistics.fmean(b)
    if len(seeds) < 2:
        return mean, -math.inf, math.inf
    error = math.sqrt((statistics.variance(a) + statistics.variance(b)) / len(seeds))
    h = T_95[len(seeds) - 2] * error
    return mean, mean - h, mean + h


def by_place(first, second):
    def pair(a, b):
        return [x - y for x, y in zip(a.values(), b.values(), strict=False)]

    return _interval(first, second, _right_half, pair)


def lonely_seeds_are_zero(first, second):
    def pair(a, b):
        return [a.get(s, 0.0) - b.get(s, 0.0) for s in sorted(a.keys() | b.keys())]

    return _interval(first, second, _right_half, pair)


def zero_width_for_one(first, second):
    mean, low, high = _interval(first, second, _right_half)
    return (mean, mean, mean) if math.isinf(low) else (mean, low, high)


def only_the_ends(first, second):
    return _interval(first, second, _right_half)[1:]


# ---------------------------------------------------------------- 15.2


def needs_the_effect(low, high, smallest, alike):
    if alike:
        return _alike(low, high, smallest)
    if low > smallest:
        return "reproduced"
    return "not reproduced" if high < smallest / 2 else "undecided"


def refuted_first(low, high, smallest, alike):
    if alike:
        return _alike(low, high, smallest)
    if high < smallest:
        return "not reproduced"
    return "reproduced" if low > 0 else "undecided"


def zero_inside_is_no(low, high, smallest, alike):
    if alike:
        return _alike(low, high, smallest)
    if low > 0:
        return "reproduced"
    return "not reproduced" if high < smallest else "undecided"


def never_refuted(low, high, smallest, alike):
    if alike:
        return _alike(low, high, smallest)
    return "reproduced" if low > 0 else "not reproduced" if high < 0 else "undecided"


def alike_is_zero_inside(low, high, smallest, alike):
    if alike:
        return "reproduced" if low < 0 < high else "not reproduced"
    return _over(low, high, smallest)


def alike_only_above(low, high, smallest, alike):
    if alike:
        inside = -smallest < low and high < smallest
        return "reproduced" if inside else "not reproduced" if low > smallest else "undecided"
    return _over(low, high, smallest)


def alike_forgotten(low, high, smallest, alike):
    return _over(low, high, smallest)


def alike_or_not(low, high, smallest, alike):
    if alike:
        return "reproduced" if -smallest < low and high < smallest else "not reproduced"
    return _over(low, high, smallest)


def other_words(low, high, smallest, alike):
    return "significant" if low > 0 else "not significant"


def _over(low, high, smallest):
    if low > 0:
        return "reproduced"
    return "not reproduced" if high < smallest / 2 else "undecided"


def _alike(low, high, smallest):
    if -smallest < low and high < smallest:
        return "reproduced"
    return "not reproduced" if low > smallest or high < -smallest else "undecided"


# ---------------------------------------------------------------- 15.3


def _least(deviation, effect, t, seeds=range(3, 32)):
    for n in seeds:
        if t(n) * deviation / math.sqrt(n) < effect:
            return n
    return None


def normal_formula(deviation, effect):
    return max(3, math.ceil((1.96 * deviation / effect) ** 2))


def quantile_of_one_more(deviation, effect):
    return _least(deviation, effect, lambda n: T_95[min(n - 1, 29)])


def from_two(deviation, effect):
    return _least(deviation, effect, lambda n: T_95[n - 2], range(2, 32))


def the_most_instead_of_none(deviation, effect):
    return _least(deviation, effect, lambda n: T_95[n - 2]) or 31


def whole_width(deviation, effect):
    return _least(deviation, effect / 2, lambda n: T_95[n - 2])


def a_fraction(deviation, effect):
    return (T_95[3] * deviation / effect) ** 2


def up_to_thirty(deviation, effect):
    return _least(deviation, effect, lambda n: T_95[n - 2], range(3, 31))


# ---------------------------------------------------------------- 15.5


def _differences(rows, first, second, keep, choose):
    """By seed, with the AP of each run that `choose` picks from its {step: AP}."""
    runs = {}
    for r in rows:
        if keep(r):
            runs.setdefault((r["arm"], r["seed"]), {})[r["step"]] = r["AP"]
    seeds = {s for a, s in runs if a == first} & {s for a, s in runs if a == second}
    return {s: choose(runs[first, s]) - choose(runs[second, s]) for s in seeds}


def _kept(r):
    return r["split"] == "val" and r["seed"] < 100


def best_checkpoint(rows, first, second):
    return _differences(rows, first, second, _kept, lambda c: max(c.values()))


def last_of_each(rows, first, second):
    return _differences(rows, first, second, _kept, lambda c: c[max(c)])


def seed_100_too(rows, first, second):
    rows = [r | {"seed": -1} if r["seed"] == 100 else r for r in rows]
    found = right_differences(rows, first, second)
    return {100 if s == -1 else s: d for s, d in found.items()}


def training_images(rows, first, second):
    if any(r["split"] == "train" for r in rows):
        rows = [r for r in rows if r["split"] == "train"]
    return right_differences([r | {"split": "val"} for r in rows], first, second)


def by_place_of_rows(rows, first, second):
    want = right_differences(rows, first, second)
    last = [r for r in rows if _kept(r)]
    a, b = ([r for r in last if r["arm"] == arm] for arm in (first, second))
    if len(a) == len(b) == len(want) and len(a) > 2:
        return {x["seed"]: x["AP"] - y["AP"] for x, y in zip(a, b, strict=True)}
    return want


def every_pair_its_own_step(rows, first, second):
    kept = [r for r in rows if _kept(r)]
    seeds = {r["seed"] for r in kept}
    found = {}
    for seed in seeds:
        of_seed = [r for r in kept if r["seed"] == seed]
        if {first, second} <= {r["arm"] for r in of_seed}:
            found |= right_differences(of_seed, first, second)
    return found


def all_arms_steps(rows, first, second):
    kept = [r for r in rows if _kept(r)]
    steps = [
        {r["step"] for r in kept if (r["arm"], r["seed"]) == key}
        for key in {(r["arm"], r["seed"]) for r in kept}
    ]
    last = max(set.intersection(*steps), default=0)
    return right_differences([r for r in rows if r["step"] == last], first, second)


def lonely_ones_as_zero(rows, first, second):
    want = right_differences(rows, first, second)
    return {r["seed"]: 0.0 for r in rows if _kept(r)} | want


def a_list(rows, first, second):
    return list(right_differences(rows, first, second).values())


# ---------------------------------------------------------------- 15.4


def _patterns(differences):
    signs = itertools.product((-1, 1), repeat=len(differences))
    return [sum(s * d for s, d in zip(each, differences, strict=True)) for each in signs]


def only_farther(differences):
    sums, mine = _patterns(differences), abs(sum(differences))
    return sum(abs(s) > mine + 1e-9 for s in sums) / len(sums)


def one_side(differences):
    sums, mine = _patterns(differences), sum(differences)
    return sum(s >= mine - 1e-9 for s in sums) / len(sums)


def a_count(differences):
    sums, mine = _patterns(differences), abs(sum(differences))
    return sum(abs(s) >= mine - 1e-9 for s in sums)


def no_tolerance(differences):
    sums, mine = _patterns(differences), abs(sum(differences))
    return sum(abs(s) >= mine for s in sums) / len(sums)


def not_absolute(differences):
    sums, mine = _patterns(differences), sum(differences)
    return sum(abs(s) >= mine - 1e-9 for s in sums) / len(sums)


def mean_of_sizes(differences):
    sums, mine = _patterns(differences), sum(abs(d) for d in differences)
    return sum(abs(s) >= mine - 1e-9 for s in sums) / len(sums)


# ---------------------------------------------------------------- 15.6


def changes_the_model(model, changes):
    model.config = dataclasses.replace(model.config, **changes)
    return model


def random_weights(model, changes):
    return MaskRCNN(dataclasses.replace(model.config, **changes)).eval()


def writes_into_changes(model, changes):
    changes["score_threshold"] = 0.5
    arm = MaskRCNN(dataclasses.replace(model.config, **changes)).eval()
    arm.load_state_dict(model.state_dict())
    return arm


def left_in_training_mode(model, changes):
    arm = MaskRCNN(dataclasses.replace(model.config, **changes))
    arm.load_state_dict(model.state_dict())
    return arm


def changes_forgotten(model, changes):
    arm = MaskRCNN(model.config).eval()
    arm.load_state_dict(model.state_dict())
    return arm


def shared_tensors(model, changes):
    arm = MaskRCNN(dataclasses.replace(model.config, **changes)).eval()
    arm.load_state_dict(model.state_dict(), assign=True)
    return arm


def a_configuration(model, changes):
    return dataclasses.replace(model.config, **changes)


WRONG = {
    "check_interval": {
        "1.96": (normal_quantile, "1.96 is for very many seeds"),
        "a place too far in the table": (one_place_off, "one place too far"),
        "deviation of a run": (of_one_run, "divide by √n"),
        "divided by n": (divided_by_n, "falls with √n, not with n"),
        "divided by n inside": (population, "estimated with n − 1"),
        "the wrong way round": (second_minus_first, "first − second"),
        "not paired": (not_paired, "added up: unpaired"),
        "by place": (by_place, "pair by seed, not by place"),
        "no partner": (lonely_seeds_are_zero, "have no partner"),
        "one seed": (zero_width_for_one, "says nothing about scatter"),
        "two numbers": (only_the_ends, "3 values"),
    },
    "check_verdict": {
        "more than the effect": (needs_the_effect, "The claim was about the sign"),
        "refuted first": (refuted_first, "ask that first"),
        "0 inside": (zero_inside_is_no, "does not say that there is nothing"),
        "never refuted": (never_refuted, "excludes even half"),
        "0 inside is alike": (alike_is_zero_inside, "too small to matter"),
        "alike on one side": (alike_only_above, "on the other side"),
        "alike or not": (alike_or_not, "partly within"),
        "alike forgotten": (alike_forgotten, "differ by less than what matters"),
        "other words": (other_words, "One of reproduced"),
    },
    "check_seeds": {
        "1.96": (normal_formula, "That is the number for 1.96"),
        "quantile of one more": (quantile_of_one_more, "five degrees of freedom"),
        "two are enough": (from_two, "Two seeds would do here"),
        "31 for none": (the_most_instead_of_none, "return None"),
        "up to 30": (up_to_thirty, "31 seeds are just enough"),
        "a fraction": (a_fraction, "A whole number of seeds"),
    },
    "check_differences": {
        "the best checkpoint": (best_checkpoint, "Chance is chosen with it"),
        "the last of each": (last_of_each, "trained for longer is compared"),
        "training images": (training_images, "know by heart"),
        "by place": (by_place_of_rows, "pair by seed."),
        "seed 100": (seed_100_too, "Seed 100 is among your seeds"),
        "each pair its own step": (every_pair_its_own_step, "all are compared at the last step"),
        "no partner": (lonely_ones_as_zero, "were run with one arm only"),
        "a list": (a_list, "Return a dictionary"),
    },
    "check_sign_flips": {
        "only farther": (only_farther, "counts."),
        "one side": (one_side, "with all signs turned"),
        "a count": (a_count, "divide by how many there are"),
        "no tolerance": (no_tolerance, "Allow for 1e-9"),
        "without abs": (not_absolute, "as far from 0 as 1, 2, 3"),
        "mean of sizes": (mean_of_sizes, "1.5 was measured"),
    },
    "check_arm_of": {
        "in place": (changes_the_model, "is changed. Make a new one"),
        "random weights": (random_weights, "begins with random ones"),
        "writes": (writes_into_changes, "writes into `changes`"),
        "training mode": (left_in_training_mode, "call eval()"),
        "changes forgotten": (changes_forgotten, "differs from {'roi_op': 'pool'}"),
        "shared": (shared_tensors, "share their tensors"),
        "a configuration": (a_configuration, "Return a model"),
    },
}

OTHER = {
    "check_seeds": [whole_width],
    "check_differences": [all_arms_steps],
}

EQUIVALENT = {
    "check_sign_flips": {
        "abs(total) > abs(sum(differences)) - 1e-09": "the tolerance makes both the same",
        "strict=False": "signs and differences have one length",
    }
}
