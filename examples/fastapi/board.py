"""A board: notes in SQLite, and everybody who reads it hears of a new one at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator

from fastapi import BackgroundTasks, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

DATABASE = os.environ.get("BOARD_DATABASE", "board.db")


class Note(BaseModel):
    author: str = Field(min_length=1, max_length=50)
    text: str = Field(min_length=1, max_length=500)


class Readers:
    """Those who wait for new notes, each with a queue of its own."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[str]] = set()

    @contextlib.contextmanager
    def joined(self) -> Iterator[asyncio.Queue[str]]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def tell(self, note: str) -> None:
        for queue in self._queues:
            queue.put_nowait(note)

    def __len__(self) -> int:
        return len(self._queues)


readers = Readers()


@contextlib.asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    with contextlib.closing(sqlite3.connect(DATABASE)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS note (author TEXT, text TEXT)")
        application.state.database = database
        yield


application = FastAPI(title="Board", lifespan=lifespan)


@application.get("/")
async def notes() -> list[Note]:
    rows = application.state.database.execute("SELECT author, text FROM note ORDER BY rowid")
    return [Note(author=author, text=text) for author, text in rows]


@application.get("/notes/{number}")
async def note(number: int) -> Note:
    query = "SELECT author, text FROM note WHERE rowid = ?"
    row = application.state.database.execute(query, (number,)).fetchone()
    if row is None:
        raise HTTPException(404, "no such note")
    return Note(author=row[0], text=row[1])


@application.post("/", status_code=201)
async def write(note: Note, background: BackgroundTasks) -> Note:
    keep(note)
    background.add_task(readers.tell, note.model_dump_json())
    return note


def keep(note: Note) -> None:
    with application.state.database as database:
        database.execute("INSERT INTO note VALUES (?, ?)", (note.author, note.text))


@application.get("/readers")
async def count() -> int:
    return len(readers)


@application.websocket("/live")
async def live(websocket: WebSocket) -> None:
    """Every new note; what a reader sends is a note of theirs."""
    await websocket.accept()
    with readers.joined() as queue:
        teller = asyncio.create_task(tell(websocket, queue))
        try:
            while True:
                note = Note.model_validate_json(await websocket.receive_text())
                keep(note)
                readers.tell(note.model_dump_json())
        except WebSocketDisconnect:
            pass
        finally:
            teller.cancel()


async def tell(websocket: WebSocket, queue: asyncio.Queue[str]) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await queue.get())


@application.get("/events")
async def events() -> StreamingResponse:
    """The same for browsers' EventSource."""

    async def stream() -> AsyncIterator[str]:
        with readers.joined() as queue:
            while True:
                yield f"data: {await queue.get()}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")
