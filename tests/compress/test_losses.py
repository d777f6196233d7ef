"""Distillation losses against hand-computed numbers and slow twins."""

from __future__ import annotations

import math

import pytest
import torch

from edgeft.compress.distill import losses


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


def test_hidden_states_ignore_padding() -> None:
    student = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [-9.0, -9.0]]])
    found = losses.hidden_states(student, teacher, torch.tensor([[1, 1, 0]]))
    assert found.tolist() == pytest.approx([0.5])  # cosines 1 and 0


def test_soft_bits_by_hand() -> None:
    # teacher has a label with probability sigmoid(1) at temperature 2, the student with 1/2; the other label is alike
    p = 1 / (1 + math.exp(-1))
    one = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    found = losses.soft_bits(torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0, 3.0]]), 2.0)
    assert found.item() == pytest.approx(4 * one / 2, abs=1e-6)


def test_soft_bits_of_one_label_are_soft_labels_of_two() -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(6, 1), torch.randn(6, 1)
    two = [torch.cat([torch.zeros(6, 1), logits], dim=1) for logits in (student, teacher)]
    torch.testing.assert_close(losses.soft_bits(student, teacher, 1.5), losses.soft_labels(two[0], two[1], 1.5))


def test_soft_numbers_by_hand() -> None:
    assert losses.soft_numbers(torch.tensor([[1.0]]), torch.tensor([[3.0]]), 2.0).tolist() == [2.0]


def test_the_reverse_divergence_is_another_one() -> None:
    student, teacher = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    p = 1 / (1 + math.exp(-3))
    reverse = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    assert losses.soft_labels(teacher, student, 1.0).item() == pytest.approx(reverse, abs=1e-6)
    assert losses.soft_labels(student, teacher, 1.0).item() != pytest.approx(reverse, abs=1e-2)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_folded_logits_have_the_probabilities_of_some_classes_and_of_the_rest(temperature: float) -> None:
    torch.manual_seed(2)
    logits = 3 * torch.randn(5, 7)
    ids = torch.stack([torch.randperm(7)[:3] for _ in range(5)])
    found = torch.softmax(losses.fold_classes(logits, ids, temperature) / temperature, dim=-1)
    whole = torch.softmax(logits / temperature, dim=-1)
    torch.testing.assert_close(found[:, :3], whole.gather(1, ids))
    torch.testing.assert_close(found[:, 3], 1 - whole.gather(1, ids).sum(1))


def test_folded_to_all_classes_loses_nothing() -> None:
    torch.manual_seed(3)
    student, teacher = torch.randn(4, 5), torch.randn(4, 5)
    ids = teacher.argsort(dim=-1)
    folded = [losses.fold_classes(logits, ids, 2.0) for logits in (student, teacher)]
    torch.testing.assert_close(losses.soft_labels(folded[0], folded[1], 2.0), losses.soft_labels(student, teacher, 2.0))


def test_relations_equal_the_slow_sum_and_ignore_padding() -> None:
    torch.manual_seed(4)
    student, teacher, heads = torch.randn(2, 4, 6), torch.randn(2, 4, 8), 2
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    found = losses.relations(student, teacher, mask, heads)
    for row, length in enumerate((4, 2)):
        slow = 0.0
        for head in range(heads):
            a, b = (v[row, :length].view(length, heads, -1)[:, head] for v in (student, teacher))
            for token in range(length):
                q, p = (torch.softmax(v[token] @ v.T / math.sqrt(v.shape[1]), 0) for v in (a, b))
                slow += float((p * (p / q).log()).sum()) / (heads * length)
        assert found[row].item() == pytest.approx(slow, abs=1e-5)


def test_relations_by_hand() -> None:
    # two tokens, one head of width 1: the second has relations sigmoid(-2), sigmoid(2) in the teacher, even ones here
    teacher, student = torch.tensor([[[0.0], [math.sqrt(2.0)]]]), torch.zeros(1, 2, 1)
    p = 1 / (1 + math.exp(-2))
    expected = (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))) / 2
    found = losses.relations(student, teacher, torch.ones(1, 2), 1)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_an_item_that_nothing_is_compared_in_has_no_loss() -> None:
    student, teacher, mask = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.tensor([[1, 1, 1], [0, 0, 0]])
    for found in (losses.hidden_states(student, teacher, mask), losses.relations(student, teacher, mask, 2)):
        assert (bool(found[0] > 0), found[1].item()) == (True, 0)


def test_relations_of_one_token_are_equal_whatever_it_is() -> None:
    assert losses.relations(torch.randn(1, 1, 4), torch.randn(1, 1, 4), torch.ones(1, 1), 2).item() == 0
