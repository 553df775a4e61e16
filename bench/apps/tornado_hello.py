"""Tornado: a handler that writes fourteen bytes of text."""

import tornado.web


class Hello(tornado.web.RequestHandler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/plain")
        self.write(b"Hello, World!\n")


application = tornado.web.Application([("/", Hello)])
