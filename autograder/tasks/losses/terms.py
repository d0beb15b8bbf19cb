"""What the terms of `hw7.checks.diagnosis.losses.terms` are: the evidence that a wrong loss is compared with."""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from hw7.checks.diagnosis.losses import terms


def first_terms(s: Tensor, t: Tensor, y: Tensor, T: float, alpha: float) -> list[Tensor]:
    """Values [] of all of `terms.FIRST` for the logits s, t [N, C] of student and teacher, in their order."""
    divisors = dict(zip(terms.TEMPERATURES, (T, 1.0, T**2, T**0.5, 1 / T if T else torch.inf, 20.0), strict=True))
    log_p = {name: (t / divisor).log_softmax(1) for name, divisor in divisors.items()}
    log_q = {name: (s / divisor).log_softmax(1) for name, divisor in divisors.items()}
    found: list[Tensor] = []
    for direction in range(3):
        for of_t, of_s in product(terms.TEMPERATURES, repeat=2):
            p, q = log_p[of_t], log_q[of_s]
            found.append((_kl(p, q), _kl(q, p), -(p.exp() * q).sum(1).mean())[direction])
    at_both = [_others(s / divisor, t / divisor, y) for divisor in (T, 1.0)]
    found += [value for both in zip(*at_both, strict=True) for value in both]
    p, q = log_p["T"], log_q["T"]
    found += [(p.exp() * (p - (q.exp() + epsilon).log())).sum(1).mean() for epsilon in terms.EPSILONS]
    for share, power in terms.INSIDE:
        target = p.exp() * ((alpha if share else 1.0) * T**power)
        found.append((torch.special.xlogy(target, target) - target * q).sum(1).mean())
    return [*found, F.mse_loss(s, t), 1 - F.cosine_similarity(s, t).mean()]


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()


def _others(s: Tensor, t: Tensor, y: Tensor) -> list[Tensor]:
    """Those of `terms.OTHERS` for softened logits."""
    p, q, log_p, log_q = t.softmax(1), s.softmax(1), t.log_softmax(1), s.log_softmax(1)
    middle = torch.logaddexp(log_p, log_q) - torch.tensor(2.0).log()
    return [
        (_kl(log_p, log_q) + _kl(log_q, log_p)) / 2,
        (_kl(log_p, middle) + _kl(log_q, middle)) / 2,
        F.mse_loss(q, p),
        F.mse_loss(log_q, log_p),
        F.l1_loss(q, p),
        F.cross_entropy(s, t.argmax(1)),
        (p * (log_p - q)).sum(1).mean(),
        (q * (log_q - p)).sum(1).mean(),
        (p * (log_p - s)).sum(1).mean(),
        (p.exp() * (p - log_q)).sum(1).mean(),
        (t.exp() * (t - log_q)).sum(1).mean(),
        (log_p - log_q).sum(1).mean(),
        F.binary_cross_entropy_with_logits(s, p),
        _kl(t.log_softmax(0), s.log_softmax(0)),
        _kl(t.log_softmax(0), log_q),
        _kl(log_p, s.log_softmax(0)),
        1 - F.cosine_similarity(q, p).mean(),
        _kl(log_p[:1], log_q[:1]),
    ]


def second_terms(s: Tensor, t: Tensor, y: Tensor, T: float, alpha: float) -> list[Tensor]:
    """Values [] of all of `terms.SECOND`, in their order."""
    divisors = (T, T**2, T**0.5, 1 / T if T else torch.inf, 20.0)
    q, log_q, one_hot = s.softmax(1), s.log_softmax(1), F.one_hot(y, s.shape[1]).to(s.dtype)
    of_label, log_of_label = (each.gather(1, y[:, None]) for each in (q, log_q))
    return [
        F.cross_entropy(s, y),
        *(F.cross_entropy(s / divisor, y) for divisor in divisors),
        *(F.cross_entropy(s, y, label_smoothing=smoothed) for smoothed in terms.SMOOTHED),
        F.cross_entropy(t, y) + 0 * s.sum(),
        F.cross_entropy(t / T, y) + 0 * s.sum(),
        F.cross_entropy(q, y),
        F.cross_entropy((s / T).softmax(1), y),
        -of_label.mean(),
        -s.gather(1, y[:, None]).mean(),
        F.nll_loss(s.log_softmax(0), y),
        F.mse_loss(q, one_hot),
        F.mse_loss(s, one_hot),
        F.cross_entropy(s, t.argmax(1)),
        F.cross_entropy(s, t.softmax(1)),
        F.binary_cross_entropy_with_logits(s, one_hot),
        -((1 - of_label) ** 2 * log_of_label).mean(),
        -((1 - of_label) * log_of_label).mean(),
        F.cross_entropy(s[:1], y[:1]),
        F.cross_entropy(s, (y + 1) % s.shape[1]),
    ]


def values(s: Tensor, t: Tensor, y: Tensor, T: float, alpha: float) -> list[Tensor]:
    """Of the first terms and of the second ones [n], in float64."""
    makers = (first_terms, second_terms)
    return [torch.stack(make(s.double(), t.double(), y, T, alpha)).detach() for make in makers]


def gradients(s: Tensor, t: Tensor, y: Tensor, T: float, alpha: float) -> list[Tensor]:
    """Of the first terms and of the second ones, to the student's logits: [n, N, C]."""
    s, t = s.detach().double().requires_grad_(), t.detach().double()
    makers = (first_terms, second_terms)
    return [
        torch.stack([torch.autograd.grad(value, s, retain_graph=True)[0] for value in make(s, t, y, T, alpha)])
        for make in makers
    ]


def divergence(s: Tensor, t: Tensor, T: float) -> tuple[Tensor, Tensor]:
    """KL(teacher || student) [], softened by T, and its gradient to the student's logits [N, C]."""
    s = s.detach().double().requires_grad_()
    value = _kl((t.double() / T).log_softmax(1), (s / T).log_softmax(1))
    return value.detach(), torch.autograd.grad(value, s)[0]
