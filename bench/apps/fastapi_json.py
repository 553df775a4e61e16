"""FastAPI's hello: routing, dependency machinery, a JSON response, nothing else."""

from fastapi import FastAPI

application = FastAPI()


@application.get("/")
async def hello() -> dict[str, str]:
    return {"message": "Hello, World!"}
