"""What a request costs behind a web server that speaks uwsgi: the same nginx, the same application, oxicorn and uWSGI.

nginx proxies by a Unix socket with its stock parameters. Its own processor time is told beside the figure and not part
of it: it is the same work for whoever stands behind.
"""

import os
import socket
import time
from pathlib import Path

from harness import processes
from harness.clients import Load, answers, run_wrk
from harness.experiment import START_PATIENCE, START_PAUSE, Bench, Experiment, Sample, Target
from harness.measures import SETTLE, WARM_UP, Accounts, check_answer
from harness.servers import NGINX, Shape, free_port, socket_at

HELLO_LENGTH = 14
CPU = "CPU us/request"
NGINX_TIME = "nginx us"

CONFIGURATION = """
daemon off;
{user}
pid {directory}/pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    {temporary}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            include /etc/nginx/uwsgi_params;
            uwsgi_pass unix:{socket};
        }}
    }}
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def nginx_before(path: Path, port: int, directory: Path) -> list[str]:
    """The command of an nginx that serves at `port` what speaks uwsgi at `path`."""
    directory.mkdir(exist_ok=True)
    configuration = directory / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(
            directory=directory,
            port=port,
            socket=path,
            user="user root;" if os.getuid() == 0 else "",
            temporary="".join(f"{kind}_temp_path {directory}/{kind}; " for kind in TEMPORARY),
        )
    )
    return [str(NGINX), "-c", str(configuration), "-p", str(directory)]


def listens(path: Path) -> bool:
    """Whether somebody accepts connections at this socket."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def cpu_behind_nginx(bench: Bench) -> Sample:
    """CPU microseconds of the application server's tree for each request that nginx passed on to it."""
    path, port, load = socket_at(bench.port), free_port(), Load()
    nginx = nginx_before(path, port, bench.settings.scratch / "nginx")
    with bench.launch() as server:
        # nginx would answer 502 for a server that is not there.
        server.wait_until(lambda: listens(path), START_PATIENCE, START_PAUSE)
        with processes.helper(nginx) as helper:
            server.wait_until(lambda: answers(port), START_PATIENCE, START_PAUSE)
            check_answer(port, "/", HELLO_LENGTH, None)
            run_wrk(port, load, min(WARM_UP, bench.settings.seconds))
            time.sleep(SETTLE)
            before = processes.cpu_seconds(helper)
            with Accounts(server.pid) as accounts:
                result = run_wrk(port, load, bench.settings.seconds)
                time.sleep(SETTLE)
            spent = processes.cpu_seconds(helper) - before
    return Sample(
        accounts.server / result.requests * 1e6,
        {NGINX_TIME: spent / result.requests * 1e6, "requests/s": round(result.per_second)},
        result.errors,
        accounts.disturbance,
    )


EXPERIMENTS = (
    Experiment(
        # Missed: bench/README.md says why.
        "uwsgi-pass",
        "WSGI hello behind nginx' uwsgi_pass",
        CPU,
        Shape("hello", uwsgi=True),
        cpu_behind_nginx,
        ("oxicorn", "uwsgi"),
        (Target(0.60, "uwsgi"),),
        columns=(NGINX_TIME,),
    ),
)
