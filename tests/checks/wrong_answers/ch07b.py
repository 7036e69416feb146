"""Wrong answers to the exercises of chapter 07b: {check: {what is wrong: (answer, message)}}."""

from numba import cuda

from mrcnn_edu.roi.cuda.device import sample, sample_position


def pool_assigns(gradient, argmax, out):
    c, b = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1] and argmax[b, c] >= 0:
        out[argmax[b, c], c] = gradient[b, c]


def pool_with_a_loop(gradient, argmax, out):
    c = cuda.grid(1)
    if c < gradient.shape[1]:
        for b in range(gradient.shape[0]):
            if argmax[b, c] >= 0:
                cuda.atomic.add(out, (argmax[b, c], c), gradient[b, c])


def pool_with_x_over_bins(gradient, argmax, out):
    b, c = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1] and argmax[b, c] >= 0:
        cuda.atomic.add(out, (argmax[b, c], c), gradient[b, c])


def pool_races(gradient, argmax, out):
    c, b = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1] and argmax[b, c] >= 0:
        out[argmax[b, c], c] += gradient[b, c]


def pool_forgets_empty_bins(gradient, argmax, out):
    c, b = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1]:
        cuda.atomic.add(out, (argmax[b, c], c), gradient[b, c])


def pool_without_guard(gradient, argmax, out):
    c, b = cuda.grid(2)
    if argmax[b, c] >= 0:
        cuda.atomic.add(out, (argmax[b, c], c), gradient[b, c])


def scatters(gradient, weight, out):
    b = cuda.grid(1)
    if b < gradient.size:
        for i in range(out.size):
            cuda.atomic.add(out, i, weight[b, i] * gradient[b])


def scatters_plainly(gradient, weight, out):
    b = cuda.grid(1)
    if b < gradient.size:
        for i in range(out.size):
            out[i] += weight[b, i] * gradient[b]


def transposes(gradient, weight, out):
    i = cuda.grid(1)
    if i < out.size:
        total = 0.0
        for b in range(gradient.size):
            total += weight[i, b] * gradient[b]
        out[i] = total


def adds_to_what_was_there(gradient, weight, out):
    i = cuda.grid(1)
    if i < out.size:
        for b in range(gradient.size):
            out[i] += weight[b, i] * gradient[b]


def gathers_without_guard(gradient, weight, out):
    i = cuda.grid(1)
    total = 0.0
    for b in range(gradient.size):
        total += weight[b, i] * gradient[b]
    out[i] = total


def pool_by_thread_zero(gradient, argmax, out):
    c, b = cuda.grid(2)
    if c == 0 and b == 0:
        for i in range(gradient.shape[0]):
            for j in range(gradient.shape[1]):
                if argmax[i, j] >= 0:
                    cuda.atomic.add(out, (argmax[i, j], j), gradient[i, j])


def pool_by_one_thread_a_channel(gradient, argmax, out):
    c, b = cuda.grid(2)
    if c < gradient.shape[1] and b == 0:
        for i in range(gradient.shape[0]):
            if argmax[i, c] >= 0:
                cuda.atomic.add(out, (argmax[i, c], c), gradient[i, c])


def pool_without_channel(gradient, argmax, out):
    c, b = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1] and argmax[b, c] >= 0:
        cuda.atomic.add(out, argmax[b, c], gradient[b, c])


def pool_zero_forgotten(gradient, argmax, out):
    c, b = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1] and argmax[b, c] > 0:
        cuda.atomic.add(out, (argmax[b, c], c), gradient[b, c])


def gathers_by_thread_zero(gradient, weight, out):
    if cuda.grid(1) == 0:
        for i in range(out.size):
            total = 0.0
            for b in range(gradient.size):
                total += weight[b, i] * gradient[b]
            out[i] = total


def gathers_with_a_generator(gradient, weight, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = sum(weight[b, i] * gradient[b] for b in range(gradient.size))


def zeroes_then_adds(gradient, weight, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = 0.0
        for b in range(gradient.size):
            out[i] += weight[b, i] * gradient[b]


def forward_sums(feature, width, box, bins, S, out):
    c, b = cuda.grid(2)
    real = box.dtype.type
    if b >= out.shape[0] or c >= out.shape[1]:
        return
    total = real(0)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b // bins, s, real)
        top, bottom, below = sample(y, feature.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b % bins, t, real)
            left, right, beside = sample(x, width, real)
            upper = (real(1) - beside) * feature[top * width + left, c]
            upper += beside * feature[top * width + right, c]
            lower = (real(1) - beside) * feature[bottom * width + left, c]
            lower += beside * feature[bottom * width + right, c]
            total += (real(1) - below) * upper + below * lower
    out[b, c] = total


def forward_divides_by_S(feature, width, box, bins, S, out):
    c, b = cuda.grid(2)
    real = box.dtype.type
    if b >= out.shape[0] or c >= out.shape[1]:
        return
    total = real(0)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b // bins, s, real)
        top, bottom, below = sample(y, feature.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b % bins, t, real)
            left, right, beside = sample(x, width, real)
            upper = (real(1) - beside) * feature[top * width + left, c]
            upper += beside * feature[top * width + right, c]
            lower = (real(1) - beside) * feature[bottom * width + left, c]
            lower += beside * feature[bottom * width + right, c]
            total += (real(1) - below) * upper + below * lower
    out[b, c] = total / real(S)


def forward_bins_by_columns(feature, width, box, bins, S, out):
    c, b = cuda.grid(2)
    real = box.dtype.type
    if b >= out.shape[0] or c >= out.shape[1]:
        return
    total = real(0)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b % bins, s, real)
        top, bottom, below = sample(y, feature.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b // bins, t, real)
            left, right, beside = sample(x, width, real)
            upper = (real(1) - beside) * feature[top * width + left, c]
            upper += beside * feature[top * width + right, c]
            lower = (real(1) - beside) * feature[bottom * width + left, c]
            lower += beside * feature[bottom * width + right, c]
            total += (real(1) - below) * upper + below * lower
    out[b, c] = total / real(S * S)


def forward_adds_to_out(feature, width, box, bins, S, out):
    c, b = cuda.grid(2)
    real = box.dtype.type
    if b >= out.shape[0] or c >= out.shape[1]:
        return
    total = real(0)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b // bins, s, real)
        top, bottom, below = sample(y, feature.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b % bins, t, real)
            left, right, beside = sample(x, width, real)
            upper = (real(1) - beside) * feature[top * width + left, c]
            upper += beside * feature[top * width + right, c]
            lower = (real(1) - beside) * feature[bottom * width + left, c]
            lower += beside * feature[bottom * width + right, c]
            total += (real(1) - below) * upper + below * lower
    out[b, c] += total / real(S * S)


def forward_without_guard(feature, width, box, bins, S, out):
    c, b = cuda.grid(2)
    real = box.dtype.type
    total = real(0)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b // bins, s, real)
        top, bottom, below = sample(y, feature.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b % bins, t, real)
            left, right, beside = sample(x, width, real)
            upper = (real(1) - beside) * feature[top * width + left, c]
            upper += beside * feature[top * width + right, c]
            lower = (real(1) - beside) * feature[bottom * width + left, c]
            lower += beside * feature[bottom * width + right, c]
            total += (real(1) - below) * upper + below * lower
    out[b, c] = total / real(S * S)


def forward_with_x_over_bins(feature, width, box, bins, S, out):
    b, c = cuda.grid(2)
    real = box.dtype.type
    if b >= out.shape[0] or c >= out.shape[1]:
        return
    total = real(0)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b // bins, s, real)
        top, bottom, below = sample(y, feature.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b % bins, t, real)
            left, right, beside = sample(x, width, real)
            upper = (real(1) - beside) * feature[top * width + left, c]
            upper += beside * feature[top * width + right, c]
            lower = (real(1) - beside) * feature[bottom * width + left, c]
            lower += beside * feature[bottom * width + right, c]
            total += (real(1) - below) * upper + below * lower
    out[b, c] = total / real(S * S)


def forward_with_one_row(feature, width, box, bins, S, out):
    c, b = cuda.grid(2)
    real = box.dtype.type
    if b >= out.shape[0] or c >= out.shape[1]:
        return
    total = real(0)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b // bins, s, real)
        top, _, _ = sample(y, feature.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b % bins, t, real)
            left, right, beside = sample(x, width, real)
            total += (real(1) - beside) * feature[top * width + left, c]
            total += beside * feature[top * width + right, c]
    out[b, c] = total / real(S * S)


def backward_divides_by_S(gradient, width, box, bins, S, out):
    c, b = cuda.grid(2)
    if b >= gradient.shape[0] or c >= gradient.shape[1]:
        return
    real = box.dtype.type
    part = gradient[b, c] / real(S)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b // bins, s, real)
        top, bottom, below = sample(y, out.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b % bins, t, real)
            left, right, beside = sample(x, width, real)
            upper, lower = (real(1) - below) * part, below * part
            cuda.atomic.add(out, (top * width + left, c), upper * (real(1) - beside))
            cuda.atomic.add(out, (top * width + right, c), upper * beside)
            cuda.atomic.add(out, (bottom * width + left, c), lower * (real(1) - beside))
            cuda.atomic.add(out, (bottom * width + right, c), lower * beside)


def backward_gives_it_to_the_other(gradient, width, box, bins, S, out):
    c, b = cuda.grid(2)
    if b >= gradient.shape[0] or c >= gradient.shape[1]:
        return
    real = box.dtype.type
    part = gradient[b, c] / real(S * S)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b // bins, s, real)
        top, bottom, below = sample(y, out.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b % bins, t, real)
            left, right, beside = sample(x, width, real)
            upper, lower = (real(1) - below) * part, below * part
            cuda.atomic.add(out, (top * width + left, c), upper * beside)
            cuda.atomic.add(out, (top * width + right, c), upper * (real(1) - beside))
            cuda.atomic.add(out, (bottom * width + left, c), lower * beside)
            cuda.atomic.add(out, (bottom * width + right, c), lower * (real(1) - beside))


def backward_without_guard(gradient, width, box, bins, S, out):
    c, b = cuda.grid(2)
    real = box.dtype.type
    part = gradient[b, c] / real(S * S)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b // bins, s, real)
        top, bottom, below = sample(y, out.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b % bins, t, real)
            left, right, beside = sample(x, width, real)
            upper, lower = (real(1) - below) * part, below * part
            cuda.atomic.add(out, (top * width + left, c), upper * (real(1) - beside))
            cuda.atomic.add(out, (top * width + right, c), upper * beside)
            cuda.atomic.add(out, (bottom * width + left, c), lower * (real(1) - beside))
            cuda.atomic.add(out, (bottom * width + right, c), lower * beside)


def backward_adds_plainly(gradient, width, box, bins, S, out):
    c, b = cuda.grid(2)
    if b >= gradient.shape[0] or c >= gradient.shape[1]:
        return
    real = box.dtype.type
    part = gradient[b, c] / real(S * S)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b // bins, s, real)
        top, bottom, below = sample(y, out.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b % bins, t, real)
            left, right, beside = sample(x, width, real)
            upper, lower = (real(1) - below) * part, below * part
            out[top * width + left, c] += upper * (real(1) - beside)
            cuda.atomic.add(out, (top * width + right, c), upper * beside)
            cuda.atomic.add(out, (bottom * width + left, c), lower * (real(1) - beside))
            cuda.atomic.add(out, (bottom * width + right, c), lower * beside)


def backward_forgets_a_corner(gradient, width, box, bins, S, out):
    c, b = cuda.grid(2)
    if b >= gradient.shape[0] or c >= gradient.shape[1]:
        return
    real = box.dtype.type
    part = gradient[b, c] / real(S * S)
    for s in range(S):
        y = sample_position(box[0], box[2], S, b // bins, s, real)
        top, bottom, below = sample(y, out.shape[0] // width, real)
        for t in range(S):
            x = sample_position(box[1], box[3], S, b % bins, t, real)
            left, right, beside = sample(x, width, real)
            upper, lower = (real(1) - below) * part, below * part
            cuda.atomic.add(out, (top * width + left, c), upper * (real(1) - beside))
            cuda.atomic.add(out, (top * width + right, c), upper * beside)
            cuda.atomic.add(out, (bottom * width + left, c), lower * (real(1) - beside))


def launch_reshapes(kernel, feature, box, bins, S):
    C, H, W = feature.shape
    flat = feature.permute(1, 2, 0).reshape(H * W, C).contiguous()
    out = feature.new_zeros(bins * bins, C)
    blocks, threads = (-(-C // 32), -(-bins * bins // 8)), (32, 8)
    kernel[blocks, threads](flat.numpy(), W, box.numpy(), bins, S, out.numpy())
    return out.reshape(C, bins, bins)


def launch_gives_tensors(kernel, feature, box, bins, S):
    C, H, W = feature.shape
    flat = feature.permute(1, 2, 0).reshape(H * W, C).contiguous()
    out = feature.new_zeros(bins * bins, C)
    blocks, threads = (-(-C // 32), -(-bins * bins // 8)), (32, 8)
    kernel[blocks, threads](flat, W, box.numpy(), bins, S, out.numpy())
    return out.T.reshape(C, bins, bins)


def launch_channels_first(kernel, feature, box, bins, S):
    C, H, W = feature.shape
    flat = feature.reshape(C, H * W)
    out = feature.new_zeros(bins * bins, C)
    blocks, threads = (-(-C // 32), -(-bins * bins // 8)), (32, 8)
    kernel[blocks, threads](flat.numpy(), W, box.numpy(), bins, S, out.numpy())
    return out.T.reshape(C, bins, bins)


def launch_rounds_down(kernel, feature, box, bins, S):
    C, H, W = feature.shape
    flat = feature.permute(1, 2, 0).reshape(H * W, C).contiguous()
    out = feature.new_zeros(bins * bins, C)
    blocks, threads = (max(1, C // 32), -(-bins * bins // 8)), (32, 8)
    kernel[blocks, threads](flat.numpy(), W, box.numpy(), bins, S, out.numpy())
    return out.T.reshape(C, bins, bins)


def launch_with_small_blocks(kernel, feature, box, bins, S):
    C, H, W = feature.shape
    flat = feature.permute(1, 2, 0).reshape(H * W, C).contiguous()
    out = feature.new_zeros(bins * bins, C)
    blocks, threads = (-(-C // 8), -(-bins * bins // 8)), (8, 8)
    kernel[blocks, threads](flat.numpy(), W, box.numpy(), bins, S, out.numpy())
    return out.T.reshape(C, bins, bins)


def launch_by_bins_along_x(kernel, feature, box, bins, S):
    C, H, W = feature.shape
    flat = feature.permute(1, 2, 0).reshape(H * W, C).contiguous()
    out = feature.new_zeros(bins * bins, C)
    blocks, threads = (-(-bins * bins // 8), -(-C // 32)), (32, 8)
    kernel[blocks, threads](flat.numpy(), W, box.numpy(), bins, S, out.numpy())
    return out.T.reshape(C, bins, bins)


def launch_twice(kernel, feature, box, bins, S):
    C, H, W = feature.shape
    flat = feature.permute(1, 2, 0).reshape(H * W, C).contiguous()
    out = feature.new_zeros(bins * bins, C)
    blocks, threads = (-(-C // 32), -(-bins * bins // 8)), (32, 8)
    kernel[blocks, threads](flat.numpy(), W, box.numpy(), bins, S, out.numpy())
    kernel[blocks, threads](flat.numpy(), W, box.numpy(), bins, S, out.numpy())
    return out.T.reshape(C, bins, bins)


WRONG = {
    "check_forward": {
        "sums": (forward_sums, "These are sums"),
        "divides by S": (forward_divides_by_S, "takes S samples along y and x"),
        "bins by columns": (forward_bins_by_columns, "Bins 1 and 2 are exchanged"),
        "adds to out": (forward_adds_to_out, "out held sevens"),
        "no guard": (forward_without_guard, "guard both"),
        "one row": (forward_with_one_row, "2 × 2 bins of 2 × 2 samples"),
    },
    "check_backward": {
        "divides by S": (backward_divides_by_S, "as much arrives as was sent"),
        "the other pixel": (backward_gives_it_to_the_other, "the weight of the second pixel"),
        "no guard": (backward_without_guard, "more threads than bins"),
        "adds plainly": (backward_adds_plainly, "keep the additions atomic"),
        "a corner forgotten": (backward_forgets_a_corner, "what arrives"),
    },
    "check_pool_roi": {
        "reshapes at once": (launch_reshapes, "turn it over before"),
        "tensors": (launch_gives_tensors, "the tensor's memory"),
        "channels first": (launch_channels_first, "The kernel reads feature"),
        "small blocks": (launch_with_small_blocks, "32 along x"),
        "twice": (launch_twice, "one is enough"),
    },
    "check_pool_scatter": {
        "assigns": (pool_assigns, "Add, do not assign"),
        "keeps a loop": (pool_with_a_loop, "your threads add 8 times"),
        "x over bins": (pool_with_x_over_bins, "x runs over channels"),
        "thread 0 does it all": (pool_by_thread_zero, "1 threads did the work where 4"),
        "a thread for each channel": (pool_by_one_thread_a_channel, "2 threads did the work"),
        "no channel": (pool_without_channel, "out has 2 indices"),
        "pixel 0 forgotten": (pool_zero_forgotten, "only −1 is none"),
        "races": (pool_races, "use cuda.atomic.add"),
        "forgets empty bins": (pool_forgets_empty_bins, "As an index, −1"),
        "no guard": (pool_without_guard, "guard both"),
    },
    "check_gather": {
        "scatters atomically": (scatters, "let it ask all bins"),
        "scatters plainly": (scatters_plainly, "not one a bin"),
        "transposes the matrix": (transposes, "weight[b, i]."),
        "thread 0 does it all": (gathers_by_thread_zero, "1 threads did the work where 3"),
        "a generator": (gathers_with_a_generator, "no generators"),
        "zeroes, then adds": (zeroes_then_adds, "once is enough"),
        "adds to what was there": (adds_to_what_was_there, "not zeroed"),
        "no guard": (gathers_without_guard, "where is the guard?"),
    },
}

OTHER = {
    "check_forward": [forward_with_x_over_bins],
    "check_pool_roi": [launch_rounds_down, launch_by_bins_along_x],
}

EQUIVALENT = {
    "check_backward": {"out.shape[0] / width": "the quotient is whole, as a float too"},
    "check_forward": {"feature.shape[0] / width": "the quotient is whole, as a float too"},
}
