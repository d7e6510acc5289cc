"""What the operations of a call are counted as, and how long they take at the least."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from inversion_core.benchmark.roofline import Rates, Work, least_seconds, measured_rates, works_of
from inversion_core.benchmark.throughput import works_of_step
from tests.tiny import tiny_pack, tiny_targets


def test_each_operation_takes_the_longer_of_its_products_and_its_bytes() -> None:
    rates = Rates(flops_per_s=100.0, bytes_per_s=10.0)
    assert least_seconds([Work(flops=200, bytes=5), Work(flops=100, bytes=30)], rates) == pytest.approx(2 + 3)


X, KERNEL, VECTOR = torch.ones(4, 8, 6, 6), torch.ones(2, 8, 3, 3), torch.ones(1)
LEFT, RIGHT = torch.ones(5, 7), torch.ones(7, 3)


@pytest.mark.parametrize(
    ("call", "flops", "read_and_written"),
    [
        (lambda: LEFT @ RIGHT, 2 * 5 * 7 * 3, 4 * (5 * 7 + 7 * 3 + 5 * 3)),
        (lambda: F.conv2d(X, KERNEL, padding=1), 2 * 4 * 36 * 9 * 8 * 2, 4 * (4 * 36 * (8 + 2) + 9 * 8 * 2)),
        (lambda: X * X, 0, 4 * 2 * X.numel()),
        (lambda: X.clone().add_(1), 0, 4 * 4 * X.numel()),
        (lambda: X + VECTOR.expand_as(X), 0, 4 * (2 * X.numel() + 1)),
    ],
    ids=["product", "convolution", "one tensor twice", "in place", "expanded"],
)  # fmt: skip
def test_what_is_counted(call: Callable[[], object], flops: int, read_and_written: int) -> None:
    works = works_of(call)
    assert sum(work.flops for work in works) == flops
    assert sum(work.bytes for work in works) == read_and_written


def test_views_move_nothing() -> None:
    assert works_of(lambda: X.flatten(1).t()[2:].unsqueeze(0).expand(3, -1, -1)) == []


def test_a_backward_pass_counts_too() -> None:
    x = torch.ones(4, 8, requires_grad=True)
    forward = works_of(lambda: x.detach() @ torch.ones(8, 2))
    both = works_of(lambda: torch.autograd.grad((x @ torch.ones(8, 2)).sum(), x))
    assert sum(work.flops for work in both) == 2 * sum(work.flops for work in forward)


def test_a_step_grows_with_its_images_and_its_weights_do_not() -> None:
    pack = tiny_pack()

    def totals(images: int) -> tuple[int, int]:
        works = works_of_step(pack, tiny_targets(images))
        return sum(work.flops for work in works), sum(work.bytes for work in works)

    (one, one_bytes), (two, two_bytes), (three, three_bytes) = totals(1), totals(2), totals(3)
    assert three - two == pytest.approx(two - one, rel=0.05)
    assert one_bytes < two_bytes < 2 * one_bytes
    assert three_bytes > two_bytes


def test_rates_of_this_machine() -> None:
    rates = measured_rates(torch.device("cpu"))
    assert 1e8 < rates.flops_per_s < 1e14
    assert 1e8 < rates.bytes_per_s < 1e13
