"""``dspy.Predict.acall`` over ``dspy.LM``, on asyncio, without DSPy's cache and without retries."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import dspy

from tests.benchmarks.lm_works import INSTRUCTION, PREDICTED, Call, LMPeer

library: Any = dspy


@asynccontextmanager
async def predict(base: str) -> AsyncGenerator[Call]:
    lm = library.LM(f"openai/{PREDICTED}", api_base=base, api_key="k", cache=False, num_retries=0)
    module = library.Predict(library.Signature("question: str -> text: str", INSTRUCTION))

    async def call() -> object:
        with library.context(lm=lm):
            return (await module.acall(question="Hello")).text

    yield call


PEER = LMPeer(name="dspy.Predict", loop="asyncio", jobs={"predict": predict}, max_rounds=2)
