"""Checks of chapter 08, in training: the sample of RoIs and the two losses.

Those of detections stand in `mrcnn_edu.checks.ch08_detections`.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.checks.ch08_detections import (
    check_detections,
    check_repaired,
    check_soft_nms,
    random_boxes,
)
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    numbers,
    parts,
    require,
    require_equal,
    require_not,
)
from mrcnn_edu.matching import match

__all__ = [
    "check_box_losses",
    "check_detections",
    "check_repaired",
    "check_sample_rois",
    "check_soft_nms",
]

Sample = tuple[Tensor, Tensor, Tensor]


# ---------------------------------------------------------------- 8.1


@check("8.1")
def check_sample_rois(
    answer: Callable[[Tensor, Tensor, Tensor, int, torch.Generator], Sample],
) -> None:
    """Check the sample of RoIs that enter the losses of one image."""
    answer = inputs_kept(answer)

    def draw(proposals: Tensor, gt: Tensor, labels: Tensor, count: int, seed: int = 0) -> Sample:
        state = torch.get_rng_state()
        got = answer(proposals, gt, labels, count, torch.Generator().manual_seed(seed))
        boxes, classes, matched = map(numbers, parts(got, "boxes", "labels", "matched"))
        require(
            torch.equal(torch.get_rng_state(), state),
            "Draw from the generator that is passed in, not from torch's global one.",
        )
        require(
            boxes.ndim == 2 and boxes.shape[1] == 4 and boxes.shape[:1] == classes.shape,
            f"boxes are [S, 4] and labels [S]; yours have shapes {list(boxes.shape)} and "
            f"{list(classes.shape)}.",
        )
        return boxes, classes, matched

    case("no proposal near an object")
    objects = torch.tensor([[0.0, 0, 10, 10], [40.0, 40, 60, 60]])
    kinds = torch.tensor([7, 3])
    far = torch.tensor([[100.0 + 20 * i, 0, 110 + 20 * i, 10] for i in range(6)])
    boxes, classes, matched = draw(far, objects, kinds, 8)
    require(
        len(boxes) != 6 or classes.any(),
        "No proposal overlaps an object here, and your sample has no positive. The true boxes join "
        "the proposals before the matching.",
    )
    require(
        len(matched) == int((classes > 0).sum()),
        f"matched has one index for each positive; yours has {len(matched)} for "
        f"{int((classes > 0).sum())} positives.",
    )
    require(
        sorted(classes[: len(matched)].tolist()) != [1, 2],
        "A positive's label is the class of its object, not the number of the object.",
    )
    require_equal(
        classes.sort().values,
        [0, 0, 0, 0, 0, 0, 3, 7],
        "Six proposals on background, two objects of classes 7 and 3, room for eight: all are "
        "taken, and background has label 0.",
    )
    require(bool((classes[:2] > 0).all()), "Positives come first: the losses rely on that order.")
    require_equal(
        boxes[:2],
        objects[matched.long()],
        "The two positives are the true boxes, and matched says which object each belongs to.",
    )
    case("IoU of one half")
    edge = torch.tensor([[0.0, 0, 10, 5], [0.0, 0, 10, 4.9]])  # IoU 0.5 and 0.49 with object 0
    boxes, classes, _ = draw(edge, objects[:1], kinds[:1], 12)
    require_equal(
        classes,
        [7, 7, 0],
        "Two proposals with IoU 0.5 and 0.49, and the object: from 0.5 on a RoI is positive.",
    )
    case("two objects")
    both = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 14]])
    between = torch.tensor([[0.0, 0, 10, 12.5]])  # IoU 0.8 with the first, 0.89 with the second
    boxes, classes, matched = draw(between, both, torch.tensor([1, 2]), 12)
    mine = (boxes == between[0]).all(dim=1).nonzero().flatten().tolist()
    require(len(mine) == 1, "The only proposal should be in a sample of twelve, once.")
    require(
        classes[mine[0]] == 2 and matched[mine[0]] == 1,
        "A proposal overlaps two objects by 0.8 and 0.89: it belongs to the one it overlaps most.",
    )
    case("one to three")
    for count, share in ((64, 16), (10, 2)):
        generator = torch.Generator().manual_seed(1)
        near = objects[0] + torch.rand(80, 4, generator=generator)
        away = objects[0] + 100 + torch.rand(120, 4, generator=generator)
        pool = torch.cat([near, away])
        boxes, classes, _ = draw(pool, objects[:1], kinds[:1], count)
        positives = int((classes > 0).sum())
        require(
            positives != count // 2 or positives == share,
            "Half of the sample is positive, as in the RPN. Here it is a quarter: 1 to 3.",
        )
        require(
            positives == share and len(boxes) == count,
            f"81 positives, 120 negatives, room for {count}: {share} positives and {count - share} "
            f"negatives. Yours: {positives} and {len(boxes) - positives}.",
        )
        require(len(boxes.unique(dim=0)) == count, "A RoI was drawn twice.")
    case("at random")
    first, again = (draw(pool, objects[:1], kinds[:1], 40)[0] for _ in range(2))
    require(
        torch.equal(first, again),
        "The same seed gave two different samples: draw from the generator that is passed in.",
    )
    for name, part, rows in (("positives", slice(0, 10), near), ("negatives", slice(10, 40), away)):
        drawn = []
        for seed in range(30):
            chosen = draw(pool, objects[:1], kinds[:1], 40, seed)[0][part]
            same = (chosen[:, None] == rows[None]).all(dim=2)  # [drawn, rows]
            drawn.append(same.any(dim=0))
        often = torch.stack(drawn).float().mean(dim=0)
        require(
            often.min() > 0 or often.max() < 1,
            f"Some {name} are in every sample and some in none: draw them at random.",
        )
        steps = [d.nonzero().flatten().diff() for d in drawn]
        require(
            torch.cat(steps).float().mean() > 1.5 and (torch.cat(steps) == 1).float().mean() < 0.6,
            f"The {name} of a sample are neighbours in the list: draw each on its own.",
        )
        expected = torch.stack(drawn).sum(dim=1).float().mean() / len(rows)
        require(
            often.max() < 4 * expected + 0.2,
            f"Some {name} are drawn far more often than others: all have the same chance.",
        )
    case("empty")
    none = torch.zeros(0, 4)
    boxes, classes, matched = draw(far, none, torch.zeros(0, dtype=torch.long), 4)
    require(
        len(boxes) == 4 and not classes.any() and len(matched) == 0,
        "An image without objects: the sample is background, and matched is empty.",
    )
    boxes, classes, matched = draw(none, objects, kinds, 8)
    require_equal(
        classes.sort().values, [3, 7], "No proposals at all: the two true boxes are the sample."
    )
    for seed in range(5):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        gt, pool = random_boxes(5, 100, generator), random_boxes(60, 100, generator)
        pool = torch.cat(
            [pool, gt[torch.arange(20) % 5] + 3 * torch.rand(20, 4, generator=generator)]
        )
        kinds = torch.randint(1, 9, (5,), generator=generator)
        boxes, classes, matched = draw(pool, gt, kinds, 32, seed)
        truth = match(gt, boxes, 0.5, 0.5, False)  # [S]
        want = torch.where(truth >= 0, kinds[truth.clamp(min=0)], 0)
        require_equal(classes, want, "80 random proposals, five objects: the labels.")
        positive = classes > 0
        require_equal(matched, truth[positive], "80 random proposals, five objects: the matches.")


# ---------------------------------------------------------------- 8.2


@check("8.2")
def check_box_losses(
    answer: Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]],
) -> None:
    """Check the class loss and the box loss of sampled RoIs."""
    answer = inputs_kept(answer)

    def losses(
        logits: Tensor, deltas: Tensor, labels: Tensor, wanted: Tensor, beta: float
    ) -> tuple[Tensor, Tensor]:
        classes, box = parts(answer(logits, deltas, labels, wanted, beta), "class loss", "box loss")
        return torch.as_tensor(classes), torch.as_tensor(box)

    case("four RoIs")
    # Three classes and background, all logits equal: the class loss is ln 4 whatever the labels.
    logits, deltas = torch.zeros(4, 4), torch.zeros(4, 3, 4)
    deltas[0, 0, 0] = 2  # RoI 0, class 1: off by 2
    deltas[0, 1] = 9  # RoI 0, class 2: nobody asked
    deltas[2:] = 50  # background
    labels, wanted = torch.tensor([1, 2, 0, 0]), torch.zeros(2, 4)
    classes, box = losses(logits, deltas, labels, wanted, 1.0)
    log4 = torch.tensor(4.0).log()
    require_not(classes, 4 * log4, "The class loss is a mean over the sampled RoIs, not their sum.")
    for share in (2.0, 0.5):
        require_not(
            classes,
            share * log4,
            "Background RoIs have a class loss too: all four RoIs count, not the two positives.",
        )
    for share in (1.0, 0.5):
        require_not(
            classes,
            share * torch.tensor(3.0).log(),
            "Your class loss is that of three classes: background's logit belongs to the softmax.",
        )
    require_equal(classes, log4, "Four RoIs, four equal logits each: the class loss is ln 4.")
    for divisor in (1, 2, 4, 16):
        require_not(
            box,
            34 / divisor,
            "You compared the box of class 2 where the label is 1: deltas[:, 0] is class 1's.",
        )
    require_not(
        box, 1.5 / 2, "Divided by the number of positives: it is that of the sampled RoIs, four."
    )
    require_not(box, 1.5, "The box loss is divided by the number of sampled RoIs, here four.")
    for divisor in (8, 16):
        require_not(
            box, 1.5 / divisor, "The four deltas of a RoI add up; the loss is not their mean."
        )
    require_equal(
        box,
        1.5 / 4,
        "RoI 0 is off by 2 in one delta of its class, RoI 1 is perfect, RoIs 2 and 3 are "
        "background, β = 1: (2 − ½) / 4.",
    )
    case("β")
    small = torch.zeros(1, 2, 4)
    small[0, 1, 3] = 0.5
    _, box = losses(torch.zeros(1, 3), small, torch.tensor([2]), torch.zeros(1, 4), 1.0)
    require_equal(box, 0.125, "An error of ½ below β = 1 lies on the parabola: ½² / 2.")
    _, box = losses(torch.zeros(1, 3), small, torch.tensor([2]), torch.zeros(1, 4), 0.1)
    require_equal(box, 0.45, "The same error with β = 0.1 lies on the line: 0.5 − 0.05.")
    case("large logits")
    huge = torch.tensor([[200.0, 0, 0], [0, 0, 300]])
    classes, _ = losses(huge, torch.zeros(2, 2, 4), torch.tensor([2, 0]), torch.zeros(1, 4), 1.0)
    require_equal(
        classes,
        250.0,
        "Logits of 200 and 300: exp of them is infinite. F.cross_entropy, or log_softmax, takes "
        "the largest off first.",
    )
    case("background only")
    nothing = torch.zeros(3, 2, 4, requires_grad=True)
    logits = torch.zeros(3, 3, requires_grad=True)
    classes, box = losses(logits, nothing, torch.zeros(3).long(), torch.zeros(0, 4), 1.0)
    require(
        not torch.isnan(box),
        "Without positives the box loss is NaN: a mean over nothing. Sum, then divide.",
    )
    require_equal(box, 0.0, "A sample of background only: no box loss.")
    require(
        classes.requires_grad and box.requires_grad,
        "Return tensors that backward() can start from, also without positives: no .item(), no "
        ".detach(), no plain 0.",
    )
    for seed in range(3):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        labels = torch.cat([torch.randint(1, 6, (7,), generator=generator), torch.zeros(13).long()])
        logits = torch.randn(20, 6, generator=generator, requires_grad=True)
        deltas = torch.randn(20, 5, 4, generator=generator, requires_grad=True)
        wanted = torch.randn(7, 4, generator=generator)
        classes, box = losses(logits, deltas, labels, wanted, 1 / 9)
        require_equal(classes, F.cross_entropy(logits, labels), "Random logits of five classes.")
        own = deltas[torch.arange(7), labels[:7] - 1]
        want = F.smooth_l1_loss(own, wanted, beta=1 / 9, reduction="sum") / 20
        require_equal(box, want, "Random deltas, seven positives of twenty, β = 1/9.")
        got = torch.autograd.grad(classes + box, (logits, deltas), retain_graph=True)
        right = torch.autograd.grad(F.cross_entropy(logits, labels) + want, (logits, deltas))
        require_equal(got[0], right[0], "The losses are right, the gradient of the logits is not.")
        require_equal(got[1], right[1], "The losses are right, the gradient of the deltas is not.")
