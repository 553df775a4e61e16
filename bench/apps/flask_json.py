"""A framework's hello: routing, a JSON response, nothing else."""

from flask import Flask, Response, jsonify

application = Flask(__name__)


@application.get("/")
def hello() -> Response:
    return jsonify(message="Hello, World!")
