"""What an optimiser has made of a module: instructions and demonstrations for each of its steps, as plain values.

A :class:`Trained` is never changed and holds no object of DSPy's, so any number of concurrent calls may share one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, final

import attrs

from actors.errors import DeclarationError
from runtime.messages import schemas


@final
@attrs.frozen
class TrainedStep:
    """One ``dspy.Predict`` within a module."""

    instructions: str
    demos: tuple[Mapping[str, Any], ...] = ()
    """Inputs and outputs by the names of the step's signature, as JSON has them."""


@final
@attrs.frozen
class Trained:
    """The steps of a module, by their names in ``named_predictors()``."""

    steps: Mapping[str, TrainedStep]

    @classmethod
    def of(cls, module: Any) -> Trained:
        """What `module`, a ``dspy.Module``, has been trained to; later changes of the module do not show in it."""
        return cls(
            {
                name: TrainedStep(
                    str(step.signature.instructions),
                    tuple({key: schemas.dump(value) for key, value in demo.items()} for demo in step.demos),
                )
                for name, step in module.named_predictors()
            }
        )

    def given_to(self, module: Any, example: Any) -> Any:
        """`module`, new and not used elsewhere, with what was trained; `example` makes a demonstration of DSPy's.

        Raises:
            DeclarationError: the module has other steps.
        """
        found = dict(module.named_predictors())
        if found.keys() != self.steps.keys():
            raise DeclarationError(
                f"trained were the steps {sorted(self.steps)}; {type(module).__name__} has {sorted(found)}.\n"
                "  Fix: train the module that is used, or use the module that was trained."
            )
        for name, step in found.items():
            trained = self.steps[name]
            if step.signature.instructions != trained.instructions:
                step.signature = step.signature.with_instructions(trained.instructions)
            step.demos = [example(**copy.deepcopy(dict(demo))) for demo in trained.demos]  # the module may change its own
        return module
