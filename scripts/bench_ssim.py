"""How long SSIM and its gradient take, beside the specification in plain torch.

    python scripts/bench_ssim.py                  on one thread of the CPU: ms of CPU time
    python scripts/bench_ssim.py --device cuda    on a GPU: ms on the clock

Each figure is the minimum over the repeats, the two taking turns.
"""

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from cocogs.compiled import cpu_module
from cocogs.ssim import reference, ssim_map

SIZES = [(300, 200), (600, 400), (1600, 1066)]


def seconds(function: Callable[[Tensor, Tensor], Tensor], image: Tensor, photo: Tensor) -> float:
    """One forward and backward pass."""
    on_gpu = image.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    leaf = image.detach().requires_grad_()
    weights = torch.ones_like(image)
    if on_gpu:
        torch.cuda.synchronize()
    start = clock()
    function(leaf, photo).backward(weights)
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="How long SSIM takes.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.device == "cpu":
        cpu_module()  # loading it makes the process keep freed memory, for both
    print(f"{'':>11}  native   torch  ratio")
    for width, height in SIZES:
        torch.manual_seed(0)
        image, photo = torch.rand(2, 3, height, width).to(arguments.device)
        best = [math.inf, math.inf]
        for _ in range(arguments.repeats):
            for i, function in enumerate((ssim_map, reference.ssim_map)):
                best[i] = min(best[i], seconds(function, image, photo))
        print(f"{width:>5} x {height:<4}{best[0] * 1e3:8.2f}{best[1] * 1e3:8.2f}{best[1] / best[0]:6.1f}x")


if __name__ == "__main__":
    main()
