"""wsgi.file_wrapper: the bytes are those that reading the file gives, whatever kind of file it is (PEP 3333)."""

from __future__ import annotations

import pytest

APPLICATION = """
    import gzip, io, os, sys, tempfile
    from django.core.files import File
    from django.core.files.uploadedfile import TemporaryUploadedFile

    CONTENT = bytes(number % 251 for number in range(100_000))
    with open("content", "wb") as file:
        file.write(CONTENT)
    with gzip.open("content.gz", "wb") as file:
        file.write(CONTENT)

    class Shifted(io.FileIO):
        def read(self, size=-1):
            return bytes((byte + 1) % 256 for byte in super().read(size))

    class ShiftedRaw(io.RawIOBase):
        def __init__(self, name):
            self.raw = io.FileIO(name)
            self.fileno, self.tell = self.raw.fileno, self.raw.tell

        def readable(self):
            return True

        def readinto(self, buffer):
            count = self.raw.readinto(buffer)
            buffer[:count] = bytes((byte + 1) % 256 for byte in buffer[:count])
            return count

    class ShiftedBuffer(io.BufferedReader):
        read = lambda self, size=-1: bytes((byte + 1) % 256 for byte in super(ShiftedBuffer, self).read(size))

    class ShiftedDjango(File):
        def read(self, size=-1):
            return bytes((byte + 1) % 256 for byte in self.file.read(size))

    class Slice:
        def __init__(self, file, length):
            self.file, self.left = file, length
            self.fileno, self.tell, self.close = file.fileno, file.tell, file.close

        def read(self, size=-1):
            data = self.file.read(min(size, self.left) if size >= 0 else self.left)
            self.left -= len(data)
            return data

    def with_own_read():
        file = open("content", "rb")
        try:
            file.read = lambda size=-1, read=file.read: read(size).swapcase()
        except AttributeError:
            pass
        return file

    def filled(file):
        file.write(CONTENT)
        file.seek(0)
        return file

    def moved(file):
        file.read(10)
        return file

    def changed():
        file = filled(tempfile.TemporaryFile())
        file.write(b"changed, not flushed")
        file.seek(5)
        return file

    def uploaded():
        file = TemporaryUploadedFile("name", "text/plain", len(CONTENT), None)
        return filled(file)

    def plain():
        return open("content", "rb")

    PLAIN = dict(
        reader=plain,
        unbuffered=lambda: open("content", "rb", buffering=0),
        random=lambda: open("content", "r+b"),
        temporary=lambda: filled(tempfile.TemporaryFile()),
        named=lambda: filled(tempfile.NamedTemporaryFile()),
        moved=lambda: moved(plain()),
        moved_named=lambda: moved(filled(tempfile.NamedTemporaryFile())),
        changed=changed,
        django=lambda: File(plain()),
        django_moved=lambda: moved(File(plain())),
        django_uploaded=uploaded,
    )
    OTHERS = dict(
        gzip=lambda: gzip.open("content.gz", "rb"),
        gzip_in_django=lambda: File(gzip.open("content.gz", "rb")),
        gzip_in_reader=lambda: io.BufferedReader(gzip.open("content.gz", "rb")),
        spooled=lambda: filled(tempfile.SpooledTemporaryFile(max_size=10)),
        memory=lambda: io.BytesIO(CONTENT),
        shifted=lambda: Shifted("content"),
        shifted_raw=lambda: io.BufferedReader(ShiftedRaw("content")),
        shifted_buffer=lambda: ShiftedBuffer(io.FileIO("content")),
        shifted_django=lambda: ShiftedDjango(plain()),
        slice=lambda: Slice(plain(), 100),
        own_read=with_own_read,
        made_when_read=lambda: open("/proc/sys/kernel/ostype", "rb"),
    )

    kept = None

    def application(environ, start_response):
        global kept
        kind = environ["QUERY_STRING"]
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/kinds":
            return [" ".join({"plain": PLAIN, "others": OTHERS}[kind]).encode()]
        if environ["PATH_INFO"] == "/moved":
            return [str(kept is not None and os.lseek(kept[0], 0, os.SEEK_CUR) != kept[1]).encode()]
        file = (PLAIN | OTHERS)[kind]()
        if environ["PATH_INFO"] == "/read":
            with file if hasattr(file, "__enter__") else file.file:
                return [b"".join(iter(lambda: file.read(8192), b""))]
        kept = None
        if kind in PLAIN:
            # Shares the position of the one that is sent, which what was read ahead has left.
            number = os.dup(file.fileno())
            file.flush()
            kept = number, os.lseek(number, 0, os.SEEK_CUR)
        return environ["wsgi.file_wrapper"](file)
"""


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(APPLICATION)


def kinds(server, which: str) -> list[str]:
    return server.get(f"/kinds?{which}").text.split()


def test_every_file_arrives_as_it_is_read(server):
    for kind in [*kinds(server, "plain"), *kinds(server, "others")]:
        expected = server.get(f"/read?{kind}").body
        assert expected, kind
        assert server.get(f"/sent?{kind}").body == expected, kind


def test_plain_files_are_not_read_by_the_worker(server, kind):
    if kind.is_gunicorn:
        pytest.skip("a sendfile of Gunicorn's moves the position")
    for name in kinds(server, "plain"):
        server.get(f"/sent?{name}")
        assert server.get("/moved").text == "False", name
