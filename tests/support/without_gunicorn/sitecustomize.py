"""On PYTHONPATH this makes an interpreter that has no Gunicorn installed, whatever its site-packages hold."""

from importlib.machinery import PathFinder

_find_spec = PathFinder.find_spec


def _find_spec_but_gunicorn(fullname, path=None, target=None):
    if fullname.partition(".")[0] == "gunicorn":
        return None
    return _find_spec(fullname, path, target)


PathFinder.find_spec = _find_spec_but_gunicorn
