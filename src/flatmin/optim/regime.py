"""How an ascent is put to use: how often, on which parameters, on which images, from how many gradients."""

from dataclasses import dataclass
from typing import Literal

from .options import check_options, option


@dataclass(frozen=True)
class Regime:
    """How an ascent is put to use; by default in every step, once, on everything.

    Attributes:
        every: ascend in every so-many-th step, counted from the first step of all, whatever rho is then; the others are
            the base's. The steps that ascend usually want a larger rho.
        steps: gradients of the ascent. With more than one, each moves rho / steps further along its own direction,
            normalised on its own; by the triangle inequality eps stays within rho, so that there is nothing to
            project (but for Fisher-SAM, whose norm changes on the way). SAM's paper tries 1, 2, 3 and 5.
        m: images per ascent, the paper's m (section 4.1). The batch is split into parts of m images, each with an
            ascent of its own, and the gradients at the perturbed points are averaged. 0: the whole batch.
        ragged: what becomes of a last part of fewer than m images: ``weighted`` by its images, or ``dropped``.
        fraction: the share of the images (the first ones) whose gradient drives the ascent. The clean loss and
            norm layers' running statistics are then those of this share too.
        only: which parameters move: ``all``, or those of ``norm`` layers alone (SAM-ON, Mueller et al. 2023,
            https://arxiv.org/abs/2306.04226). ||g|| is then taken over these parameters.
        depth: rho of the last layer over rho of the first. In between it grows linearly from layer to layer, and
            its mean over layers is the rho that is set. 1: the same everywhere.
        statistics: which passes move norm layers' running statistics: the ``clean`` one, or ``both`` (what ASAM's
            published script does).
        masks: whether dropout, stochastic depth and shaken branches draw the same numbers in all passes of a step over
            the same images: ``shared`` (SAM's official code gives both passes the same key), or ``fresh``. Passes
            over other images (``fraction``, ESAM's second one) draw from the same numbers, which fall on other places.
        true_gradient: where networks that shake their gradients (Shake-Shake, ShakeDrop) compute the true one instead:
            in passes whose gradient is the ``ascent``'s (as SAM's official code), or ``never``. In a step without
            ascent they shake it. GSAM and LookSAM descend along a mixture of the ascent's gradient and the last one.
    """

    every: int = option(1, introduced=1, at_least=1)
    steps: int = option(1, introduced=1, at_least=1)
    m: int = option(0, introduced=0, at_least=0)
    ragged: Literal["weighted", "dropped"] = option("weighted", introduced="weighted", choices=("weighted", "dropped"))
    fraction: float = option(1.0, introduced=1.0, above=0.0, at_most=1.0)
    only: Literal["all", "norm"] = option("all", introduced="all", choices=("all", "norm"))
    depth: float = option(1.0, introduced=1.0, above=0.0)
    statistics: Literal["clean", "both"] = option("clean", introduced="clean", choices=("clean", "both"))
    masks: Literal["shared", "fresh"] = option("shared", introduced="shared", choices=("shared", "fresh"))
    true_gradient: Literal["ascent", "never"] = option("ascent", introduced="ascent", choices=("ascent", "never"))

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: names the option, its value and what is allowed.
        """
        check_options(self, "regime")

    @property
    def looks_at_parts(self) -> bool:
        """Whether the closure must be able to compute the loss of a part of the batch."""
        return self.m > 0 or self.fraction < 1
