"""Distillation losses against hand-computed numbers and slow twins."""

from __future__ import annotations

import math

import pytest
import torch

from edgeft.compress import losses


def test_soft_labels_by_hand() -> None:
    # teacher (2, 0) and student (0, 0) at temperature 2: p = sigmoid(1), q = 1/2
    p = 1 / (1 + math.exp(-1))
    expected = 4 * (p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5))
    found = losses.soft_labels(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 2.0)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_soft_labels_equal_the_slow_sum() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    found = losses.soft_labels(student, teacher, 3.0)
    for row in range(4):
        p, q = torch.softmax(teacher[row] / 3, 0), torch.softmax(student[row] / 3, 0)
        slow = 9 * sum(p[k] * torch.log(p[k] / q[k]) for k in range(3))
        assert found[row].item() == pytest.approx(float(slow), abs=1e-5)


def test_a_student_like_its_teacher_has_no_loss() -> None:
    logits = torch.randn(5, 4)
    assert losses.soft_labels(logits, logits, 2.0).abs().max() < 1e-6
    states = torch.randn(2, 3, 4)
    assert losses.hidden_states(states, 5 * states, torch.ones(2, 3)).abs().max() < 1e-6


def test_the_gradient_keeps_its_size_over_temperatures() -> None:
    teacher = torch.tensor([[0.3, -0.2, 0.1]])
    sizes = []
    for temperature in (4.0, 40.0):
        student = torch.zeros(1, 3, requires_grad=True)
        losses.soft_labels(student, teacher, temperature).sum().backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_rows_without_label_cost_nothing() -> None:
    logits, labels = torch.tensor([[0.0, 0.0], [5.0, 1.0]]), torch.tensor([1, losses.UNLABELLED])
    found = losses.hard_labels(logits, labels)
    weighted = losses.hard_labels(logits, labels, torch.tensor([1.0, 3.0]))
    smoothed = losses.hard_labels(logits, labels, None, 0.2)
    assert smoothed.tolist() == pytest.approx([math.log(2), 0.0])
    sure = losses.hard_labels(torch.tensor([[0.0, 2.0]]), torch.tensor([1]), None, 0.2)
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert sure.item() == pytest.approx(0.9 * right + 0.1 * wrong)
    assert weighted.tolist() == pytest.approx([3 * math.log(2), 0.0])
    assert found.tolist() == pytest.approx([math.log(2), 0.0])


def test_hidden_states_ignore_padding() -> None:
    student = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [-9.0, -9.0]]])
    found = losses.hidden_states(student, teacher, torch.tensor([[1, 1, 0]]))
    assert found.tolist() == pytest.approx([0.5])  # cosines 1 and 0
