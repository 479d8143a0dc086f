"""Boxes chosen among overlapping ones: TFLite_Detection_PostProcess and NON_MAX_SUPPRESSION. One unit.

Sources: TFLite kernels/detection_postprocess.cc, kernels/internal/reference/non_max_suppression.h. Equal scores keep their order.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .fault import fault
from .memory import copy, f32, fill, float_of_bits, i32, u8
from .transcendental import exp_f64
from .words.detection import (
    ALIVE,
    ANCHORS,
    BOXES,
    CLASSES,
    CODES,
    DECODED,
    EACH,
    LEAST_OVERLAP,
    LEAST_SCORE,
    MERGED,
    MERGED_SCORES,
    MOST,
    OFFSET,
    ORDER,
    PER_CLASS,
    PICKED,
    REGULAR,
    SCALE_H,
    SCALE_W,
    SCALE_X,
    SCALE_Y,
    SCORES,
    SIGMA,
    SOFT,
    VALUES,
    Y_BOXES,
    Y_CLASSES,
    Y_COUNT,
    Y_SCORES,
    N,
)


@njit(error_model="numpy")
def decode(g):
    """Centres and sizes about anchors to corners, in float64 as detection_postprocess.cc computes them."""
    sy, sx = np.float64(float_of_bits(g[SCALE_Y])), np.float64(float_of_bits(g[SCALE_X]))
    sh, sw = np.float64(float_of_bits(g[SCALE_H])), np.float64(float_of_bits(g[SCALE_W]))
    for i in range(g[N]):
        code, anchor, y = f32(g[BOXES] + 4 * i * g[CODES]), f32(g[ANCHORS] + 16 * i), f32(g[DECODED] + 16 * i)
        ay, ax, ah, aw = np.float64(anchor[0]), np.float64(anchor[1]), np.float64(anchor[2]), np.float64(anchor[3])
        cy = np.float32(np.float64(code[0]) / sy * ah + ay)
        cx = np.float32(np.float64(code[1]) / sx * aw + ax)
        hh = np.float32(0.5 * exp_f64(np.float64(code[2]) / sh) * ah)
        hw = np.float32(0.5 * exp_f64(np.float64(code[3]) / sw) * aw)
        y[0], y[1] = np.float32(cy - hh), np.float32(cx - hw)
        y[2], y[3] = np.float32(cy + hh), np.float32(cx + hw)


@njit(error_model="numpy")
def overlap(boxes, i, j, corners):
    """Intersection over union of boxes i and j; `corners`: opposite ones in any order."""
    a, b = f32(boxes + 16 * i), f32(boxes + 16 * j)
    a0, a1, a2, a3 = a[0], a[1], a[2], a[3]
    b0, b1, b2, b3 = b[0], b[1], b[2], b[3]
    if corners:
        a0, a2 = min(a0, a2), max(a0, a2)
        a1, a3 = min(a1, a3), max(a1, a3)
        b0, b2 = min(b0, b2), max(b0, b2)
        b1, b3 = min(b1, b3), max(b1, b3)
    area_a, area_b = np.float32((a2 - a0) * (a3 - a1)), np.float32((b2 - b0) * (b3 - b1))
    if area_a <= 0 or area_b <= 0:
        return np.float32(0)
    height = max(np.float32(min(a2, b2) - max(a0, b0)), np.float32(0))
    width = max(np.float32(min(a3, b3) - max(a1, b1)), np.float32(0))
    both = np.float32(height * width)
    return np.float32(both / np.float32(np.float32(area_a + area_b) - both))


@njit(error_model="numpy")
def down(values, order, at, size):
    """Sift entry `at` of a heap of indices whose root comes last."""
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and later(values, order[child + 1], order[child]):
            child += 1
        if not later(values, order[child], order[at]):
            return
        order[at], order[child] = order[child], order[at]
        at = child


@njit(error_model="numpy")
def later(values, a, b):
    """Whether index a comes behind index b: a lower value, or an equal one that stands later."""
    return values[a] < values[b] or (values[a] == values[b] and a > b)


@njit(error_model="numpy")
def sort(values, order, size):
    """The `size` indices in `order` by falling value."""
    for at in range(size // 2 - 1, -1, -1):
        down(values, order, np.int64(at), size)
    for last in range(size - 1, 0, -1):
        order[0], order[last] = order[last], order[0]
        down(values, order, np.int64(0), np.int64(last))


@njit(error_model="numpy")
def choose(g, most):
    """NonMaxSuppressionSingleClassHelper over VALUES: up to `most` boxes to PICKED; how many."""
    values, order, alive, picked = f32(g[VALUES]), i32(g[ORDER]), u8(g[ALIVE]), i32(g[PICKED])
    least, limit, kept, count = float_of_bits(g[LEAST_SCORE]), float_of_bits(g[LEAST_OVERLAP]), np.int64(0), np.int64(0)
    for i in range(g[N]):
        if values[i] >= least:
            order[kept] = np.int32(i)
            kept += 1
    sort(values, order, kept)
    fill(g[ALIVE], 1, kept)
    for i in range(kept):
        if count >= most:
            break
        if alive[i] == 0:
            continue
        picked[count] = order[i]
        count += 1
        for j in range(i + 1, kept):
            if alive[j] and overlap(g[DECODED], np.int64(order[i]), np.int64(order[j]), False) > limit:
                alive[j] = np.uint8(0)
    return count


@njit(error_model="numpy")
def put(g, at, box, label, score):
    """Detection number `at`."""
    copy(g[Y_BOXES] + 16 * at, g[DECODED] + 16 * box, 16)
    f32(g[Y_CLASSES])[at] = np.float32(label)
    f32(g[Y_SCORES])[at] = score


@njit(error_model="numpy")
def best_class(g, box, above, last):
    """The class of the greatest score behind (above, last) in falling order, the first of equals."""
    scores = f32(g[SCORES] + 4 * (box * g[CLASSES] + g[OFFSET]))
    found = np.int64(-1)
    for c in range(g[CLASSES] - g[OFFSET]):
        if last >= 0 and (scores[c] > above or (scores[c] == above and c <= last)):
            continue
        if found < 0 or scores[c] > scores[found]:
            found = np.int64(c)
    return found


@njit(error_model="numpy")
def detect_fast(g):
    """One suppression over each box's best class."""
    count_classes = min(g[EACH], g[CLASSES] - g[OFFSET])
    for i in range(g[N]):
        c = best_class(g, np.int64(i), np.float32(0), np.int64(-1))
        f32(g[VALUES])[i] = f32(g[SCORES])[i * g[CLASSES] + g[OFFSET] + max(c, np.int64(0))]
    count = choose(g, g[MOST])
    for i in range(count):
        box = np.int64(i32(g[PICKED])[i])
        above, last = np.float32(0), np.int64(-1)
        for k in range(count_classes):
            c = best_class(g, box, above, last)
            if c < 0:
                break
            score = f32(g[SCORES])[box * g[CLASSES] + g[OFFSET] + c]
            put(g, i * g[EACH] + k, box, c, score)
            above, last = score, c
    f32(g[Y_COUNT])[0] = np.float32(count)


@njit(error_model="numpy")
def detect_regular(g):
    """A suppression for each class, the best of all merged."""
    merged, scores, held = i32(g[MERGED]), f32(g[MERGED_SCORES]), np.int64(0)
    for c in range(g[CLASSES] - g[OFFSET]):
        for i in range(g[N]):
            f32(g[VALUES])[i] = f32(g[SCORES])[i * g[CLASSES] + g[OFFSET] + c]
        count = choose(g, min(g[PER_CLASS], g[MOST]))
        for i in range(count):  # each to its place behind those that are not worse
            box = i32(g[PICKED])[i]
            score = f32(g[VALUES])[box]
            at = held
            while at > 0 and scores[at - 1] < score:
                at -= 1
            if at >= g[MOST]:
                continue
            held = min(held + 1, g[MOST])
            for k in range(held - 1, at, -1):
                merged[k], scores[k] = merged[k - 1], scores[k - 1]
            merged[at] = np.int32(np.int64(box) * g[CLASSES] + c)
            scores[at] = score
    for i in range(held):
        box = np.int64(merged[i]) // g[CLASSES]
        put(g, np.int64(i), box, np.int64(merged[i]) - box * g[CLASSES], scores[i])
    f32(g[Y_COUNT])[0] = np.float32(held)


@njit(error_model="numpy")
def detect(g, scratch, lo, hi):
    """TFLite_Detection_PostProcess; what is not detected is 0."""
    room = g[MOST] if g[REGULAR] else g[MOST] * g[EACH]
    fill(g[Y_BOXES], 0, 16 * room)
    fill(g[Y_CLASSES], 0, 4 * room)
    fill(g[Y_SCORES], 0, 4 * room)
    decode(g)
    if g[REGULAR]:
        detect_regular(g)
    else:
        detect_fast(g)


@njit(error_model="numpy")
def suppress(g, scratch, lo, hi):
    """NON_MAX_SUPPRESSION_V4 and V5: the best candidate again and again, hard where it overlaps, or softened by SIGMA."""
    n, picked, count = g[N], i32(g[Y_CLASSES]), np.int64(0)
    values, start, alive = f32(g[VALUES]), i32(g[ORDER]), u8(g[ALIVE])
    least, limit, sigma = (
        f32(g[LEAST_SCORE])[0],
        f32(g[LEAST_OVERLAP])[0],
        f32(g[SIGMA])[0] if g[SOFT] else np.float32(0),
    )
    most = min(np.int64(i32(g[PER_CLASS])[0]), g[MOST])
    if np.int64(i32(g[PER_CLASS])[0]) > g[MOST]:
        fault(g, scratch, 2)
    factor = np.float32(-0.5 / sigma) if sigma > 0 else np.float32(0)
    fill(g[Y_CLASSES], 0, 4 * g[MOST])
    if g[SOFT]:
        fill(g[Y_SCORES], 0, 4 * g[MOST])
    copy(g[VALUES], g[SCORES], 4 * n)
    fill(g[ORDER], 0, 4 * n)
    for i in range(n):
        alive[i] = np.uint8(values[i] > least)
    while count < most:
        best = np.int64(-1)
        for i in range(n):
            if alive[i] and (best < 0 or values[i] > values[best]):
                best = np.int64(i)
        if best < 0:
            break
        before, hard = values[best], False
        for j in range(count - 1, np.int64(start[best]) - 1, -1):
            iou = overlap(g[BOXES], best, np.int64(picked[j]), True)
            if iou >= limit:
                hard = True
                break
            if sigma > 0:
                softer = np.float32(exp_f64(np.float64(np.float32(np.float32(factor * iou) * iou))))
                values[best] = np.float32(values[best] * softer)
            if values[best] <= least:
                break
        start[best] = np.int32(count)
        if hard or not values[best] > least:  # NaN goes, too: nothing would ever take it out
            alive[best] = np.uint8(0)
        elif values[best] == before:
            alive[best] = np.uint8(0)
            picked[count] = np.int32(best)
            if g[SOFT]:
                f32(g[Y_SCORES])[count] = values[best]
            count += 1
    i32(g[Y_COUNT])[0] = np.int32(count)
