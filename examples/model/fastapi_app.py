"""FastAPI asks the model and serves other requests meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from gunicorn.dirty import get_dirty_client_async
from pydantic import BaseModel, Field

from oxicorn.dirty.errors import DirtyQueueFullError, DirtyTimeoutError

application = FastAPI()


class Flower(BaseModel):
    sepal_length: float = Field(gt=0, lt=100)
    sepal_width: float = Field(gt=0, lt=100)
    petal_length: float = Field(gt=0, lt=100)
    petal_width: float = Field(gt=0, lt=100)

    def measures(self) -> list[float]:
        return [self.sepal_length, self.sepal_width, self.petal_length, self.petal_width]


class Answer(BaseModel):
    name: str
    probability: float


@application.post("/predict")
async def predict(flowers: list[Flower]) -> list[Answer]:
    client = await get_dirty_client_async(timeout=10)
    rows = [flower.measures() for flower in flowers]
    try:
        return await client.execute_async("model:Iris", "predict", rows)
    except DirtyQueueFullError as error:
        raise HTTPException(503, "the model has too much to do") from error
    except DirtyTimeoutError as error:
        raise HTTPException(504, "the model takes too long") from error


@application.post("/names")
async def names(flowers: list[Flower]) -> StreamingResponse:
    client = await get_dirty_client_async(timeout=10)
    rows = [flower.measures() for flower in flowers]

    async def lines() -> AsyncIterator[str]:
        async for name in client.stream_async("model:Iris", "stream", rows):
            yield f"{name}\n"

    return StreamingResponse(lines(), media_type="text/plain")
