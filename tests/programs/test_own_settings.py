"""Settings that a program defines by subclasses of ``Setting``, and what ``gunicorn.config`` has for it."""

from __future__ import annotations

import json

import pytest

INSTALL = """
import oxicorn.compat
oxicorn.compat.install()
"""

SHOP = """
import json
from gunicorn.app.base import Application
from gunicorn.config import KNOWN_SETTINGS, Config, Setting, make_settings
from gunicorn.config import validate_bool, validate_list_string, validate_pos_int, validate_string

class Currency(Setting):
    name = "currency"
    section = "Shop"
    cli = ["-Y", "--currency"]
    meta = "STRING"
    validator = validate_string
    default = "euro"
    desc = '''\
        What prices are in.

        As banks call it.
        '''

class Discount(Setting):
    name = "discount"
    section = "Shop"
    cli = ["--discount"]
    type = int
    validator = validate_pos_int
    default = 0
    desc = "Per cent."

class Tags(Setting):
    name = "tags"
    section = "Shop"
    cli = ["--tag"]
    action = "append"
    validator = validate_list_string
    desc = "May be given several times."

class Sold(Setting):
    name = "sold"
    section = "Shop"
    cli = ["--sold"]
    action = "store_true"
    validator = validate_bool
    default = False
    desc = "Nothing is left."

class Shop(Application):
    def init(self, parser, opts, args):
        with open("opts.json", "w") as file:
            json.dump([opts.currency, opts.discount, opts.tags, opts.sold, args], file)
        return {"discount": 5}

    def load(self):
        cfg = self.cfg
        values = [cfg.currency, cfg.discount, cfg.tags, cfg.sold, cfg.workers]

        def application(environ, start_response):
            start_response("200 OK", [])
            return [json.dumps(values).encode()]
        return application
"""


@pytest.fixture
def source(kind):
    return SHOP if kind.is_gunicorn else INSTALL + SHOP


RUN = "\nShop('%(prog)s [OPTIONS]').run()\n"


def test_defaults_and_what_a_framework_says(program, source):
    server = program(source + RUN, "--bind", "127.0.0.1:0", "--check-config")
    assert server.wait_for_exit() == 0, server.log
    assert json.loads(server.read("opts.json")) == [None, None, None, None, []]


def test_sources_in_their_order(program, source):
    """Config file, then the environment's arguments, then the command line; other flags stand between them."""
    server = program(
        source.replace('return {"discount": 5}', 'return {"discount": 5, "currency": "crown"}') + RUN,
        "--workers",
        "1",
        "--currency=pound",
        "--bind",
        "{bind}",
        "--tag",
        "new",
        "--config",
        "shop.py",
        "--tag=red",
        "rest",
        env={"GUNICORN_CMD_ARGS": "--currency=dollar --sold --log-level=info"},
        files={"shop.py": "currency = 'franc'\ndiscount = '0x10'\n"},
    )
    server.wait_until_ready()
    assert json.loads(server.get().text) == ["pound", 16, ["new", "red"], True, 1]
    assert json.loads(server.read("opts.json"))[-1] == ["rest"]
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["--help"], 0, "--currency STRING"),
        (["--discount", "much"], 2, "invalid int value: 'much'"),
        (["--discount=-1"], 1, "Value must be positive: -1"),
        (["--discounts", "1"], 2, "--discounts"),
        (["--print-config", "--currency", "yen", "--check-config"], 0, "yen"),
    ],
)
def test_what_the_command_line_says(program, source, args, code, text):
    server = program(source + RUN, *args)
    assert server.wait_for_exit() == code, server.log
    assert text in server.log + server.read("stdout.log")


LOOK = """
cfg = Config()
assert cfg.currency == "euro" and cfg.settings["currency"].get() == "euro" and "currency" in cfg.settings
cfg.set("currency", " yen ")
assert cfg.currency == "yen" and Config().currency == "euro"
try:
    cfg.currency = "mark"
except AttributeError as error:
    assert str(error) == "Invalid access!"
else:
    raise AssertionError

names = [setting.name for setting in KNOWN_SETTINGS]
assert names[-4:] == ["currency", "discount", "tags", "sold"] and {"bind", "workers", "pre_fork"} <= set(names)
assert len(set(names)) == len(names) and set(make_settings()) == set(names)
assert all(issubclass(setting, Setting) and setting.section and setting.desc and setting.short
           for setting in KNOWN_SETTINGS)
assert Currency.short == "What prices are in." and Currency.desc.endswith("As banks call it.")
assert Discount.order == Currency.order + 1 and Discount() < Tags() and not Tags() < Discount()

from gunicorn import config
assert config.Workers in KNOWN_SETTINGS and config.Workers.name == "workers" and config.Workers.validator("3") == 3
workers = config.Workers()
workers.set("0x10")
copied = workers.copy()
copied.set(2)
assert workers.get() == 16 and copied.value == 2 and config.WorkerThreads.default == 1
assert config.validate_callable(2)(lambda one, two: None) and config.auto_int(None, "011") == 9
assert config.validate_class(lambda: dict) is dict and config.validate_string_to_list("a, b") == ["a", "b"]
assert config.validate_user("root") == 0 and config.validate_statsd_address("host:9") == ("host", 9)
assert config.validate_file_exists(__file__) == __file__ and "poll" in config.reloader_engines
for validator, wrong in (("bool", "maybe"), ("pos_int", "-1"), ("dict", 1), ("string", 1), ("file_exists", "/no"),
                         ("callable", 1), ("chdir", "/no"), ("reload_engine", "x")):
    function = getattr(config, "validate_" + validator)
    try:
        (function(0) if validator == "callable" else function)(wrong)
    except Exception:
        continue
    raise AssertionError(validator)
flags = {flag for action in cfg.parser()._actions for flag in action.option_strings}
assert {"--currency", "-Y", "--workers"} <= flags
print("done")
"""


def test_what_programs_look_at(program, source):
    server = program(source + LOOK)
    assert server.wait_for_exit() == 0, server.log
    assert server.lines("stdout.log") == ["done"]


def test_setting_that_is_there_already_is_refused(program, kind):
    if kind.is_gunicorn:
        pytest.skip("there the later one wins")
    text = "from oxicorn.config import Setting\nclass Mine(Setting):\n    name, validator = 'workers', int\n"
    server = program(text)
    assert server.wait_for_exit() == 1
    assert "TypeError: there is a setting 'workers' already; set its value instead" in server.log
