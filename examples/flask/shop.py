"""A small shop: pages, a form, JSON, an upload and a download, kept in a SQLite file.

The worker processes share nothing but that file; this is what lets the server replace any of them
at any time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from flask import (
    Flask,
    Response,
    abort,
    g,
    jsonify,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    price INTEGER NOT NULL CHECK (price >= 0)
)
"""


def create_app(database: str | None = None) -> Flask:
    """Makes the application; ``oxicorn 'shop:create_app()'`` calls it in each worker."""
    app = Flask(__name__)
    path = Path(database or os.environ.get("SHOP_DATABASE", "shop.db")).absolute()

    def connection() -> sqlite3.Connection:
        """One connection for each request."""
        if "connection" not in g:
            g.connection = sqlite3.connect(path, timeout=10)
            g.connection.row_factory = sqlite3.Row
        return g.connection  # type: ignore[no-any-return]

    @app.teardown_appcontext
    def close(_: BaseException | None) -> None:
        if "connection" in g:
            g.pop("connection").close()

    def items() -> list[dict[str, object]]:
        return [dict(row) for row in connection().execute("SELECT * FROM item ORDER BY id")]

    @app.get("/")
    def index() -> str:
        return render_template("index.html", items=items())

    @app.post("/items")
    def add() -> AnyResponse:
        name, price = request.form.get("name", "").strip(), request.form.get("price", "")
        if not name or not price.isdigit():
            abort(400, "an item has a name and a price")
        with connection() as transaction:
            transaction.execute("INSERT INTO item (name, price) VALUES (?, ?)", (name, int(price)))
        return redirect(url_for("index"), code=303)

    @app.get("/api/items")
    def api() -> Response:
        return jsonify(items())

    @app.get("/items.csv")
    def export() -> Response:
        rows = items()

        def lines() -> Iterator[str]:
            yield "id,name,price\n"
            for row in rows:
                yield f"{row['id']},{row['name']},{row['price']}\n"

        return Response(lines(), mimetype="text/csv")

    @app.post("/measure")
    def measure() -> Response:
        """Size of an uploaded file."""
        file = request.files["file"]
        return jsonify(name=file.filename, size=len(file.read()))

    @app.get("/source")
    def source() -> AnyResponse:
        return send_file(Path(__file__).absolute(), mimetype="text/x-python")

    with sqlite3.connect(path, timeout=10) as database_connection:
        database_connection.execute(SCHEMA)
    database_connection.close()
    return app
