"""``@register_run``: the parameters of a function are the parameters of a task, and its returned dict the task's metrics."""

import argparse
import inspect
import json
import math
import os
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Union, get_type_hints

# Parameters that select the task's part of the work; a function gets only those that it names.
PLACING = ("executor", "start", "end", "halo", "ahead")


def register_run(function: Optional[Callable[..., Any]] = None, **options: Any) -> Any:
    """Mark ``function`` as an experiment; bare, or with ``name="..."`` and ``gpu=True``. It stays a plain function.

    Its module gets ``_RUNS`` (name -> function) and ``compute(args)``, which calls it with the attributes of an argparse
    namespace. Raises TypeError for an unknown option and for parameters that have no name (``*args``, positional-only).
    """
    unknown = set(options) - {"name", "gpu"}
    if unknown:
        raise TypeError("register_run has no option %s; there are name and gpu" % ", ".join(sorted(unknown)))
    if function is None:
        return lambda decorated: register_run(decorated, **options)
    unusable = [p.name for p in _parameters(function).values() if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)]
    if unusable:
        raise TypeError("%s: parameter %s cannot be given by name" % (function.__name__, unusable[0]))
    name = str(options.get("name") or function.__name__)
    namespace = function.__globals__
    namespace.setdefault("_RUNS", {})[name] = function
    namespace.setdefault("compute", lambda args: call(function, dict(vars(args))))
    setattr(function, "__hpc_run__", {"name": name, "gpu": bool(options.get("gpu"))})  # noqa: B010 - mypy knows no such attribute
    return function


def call(function: Callable[..., Any], kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """Call the function. Return its metrics as JSON values; a single number gets the name ``value``.

    A function without parameters ``start`` and ``end`` runs inside that slice of a series. Raises TypeError for a wrong
    parameter, or a result that is no metrics.
    """
    parameters = _parameters(function)
    placing = {name: value for name, value in kwargs.items() if name in PLACING and name not in parameters}
    given = {name: value for name, value in kwargs.items() if name not in placing}
    unknown = sorted(set(given) - set(parameters))
    if unknown and not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        raise TypeError("%s() has no parameter %s" % (function.__name__, ", ".join(unknown)))
    if "start" in placing and "end" in placing:
        from .slices import series_slice

        with series_slice(placing["start"], placing["end"], placing.get("halo") or 0, placing.get("ahead") or 0):
            result = function(**given)
    else:
        result = function(**given)
    plain = plain_value({} if result is None else result)
    if isinstance(plain, (int, float)) and not isinstance(plain, bool):
        return {"value": plain}
    if isinstance(plain, dict):
        return plain
    text = "%s() returned %s; return a dict of numbers, such as {'rmse': 0.3}"
    raise TypeError(text % (function.__name__, type(result).__name__))


def plain_value(value: Any) -> Any:
    """Return a value in JSON's types: scalars and arrays of NumPy and pandas are converted, any other object becomes text."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, dict):
        plain: Dict[str, Any] = {}
        for name, item in value.items():  # of two keys with one text, such as 1 and "1", neither value is kept silently
            plain[str(name)] = "several values have this name" if str(name) in plain else plain_value(item)
        return plain
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_value(item) for item in value]
    for convert in ("tolist", "item", "to_dict"):
        converted = getattr(value, convert)() if callable(getattr(value, convert, None)) else value
        if type(converted) is not type(value):  # item() of an extended-precision float is itself
            return plain_value(converted)
    return str(value)


def write_metrics(metrics: Dict[str, Any], result_dir: Optional[str] = None) -> str:
    """Write ``metrics.json`` into ``result_dir`` (else ``$HPC_RESULT_DIR``, else here) by a rename. Return its path."""
    path = os.path.join(result_dir or os.environ.get("HPC_RESULT_DIR") or ".", "metrics.json")
    temporary = "%s.%d.tmp" % (path, os.getpid())
    with open(temporary, "w", encoding="utf-8") as handle:
        json.dump(plain_value(metrics), handle, sort_keys=True)
        handle.write("\n")
    os.replace(temporary, path)
    return path


def read_kw_env(environ: Optional[Dict[str, str]] = None) -> Dict[str, Any]:
    """Return the task's parameters with their types; outside of a task an empty dict."""
    text = (os.environ if environ is None else environ).get("HPC_KW_JSON")
    return dict(json.loads(text)) if text else {}


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line of a file with registered functions: flags from the signature, metrics as JSON on stdout.

    With several functions the first word names one. ``--output-file`` writes the metrics into a file instead.
    """
    runs = sys.modules["__main__"].__dict__.get("_RUNS") or {}
    if not runs:
        raise SystemExit("no function of this file is decorated with @register_run")
    words = list(sys.argv[1:] if argv is None else argv)
    if len(runs) > 1 and (not words or words[0] not in runs):
        raise SystemExit("name one of %s" % ", ".join(runs))
    function = runs[words.pop(0) if len(runs) > 1 else next(iter(runs))]
    options = vars(parser_of(function).parse_args(words))
    output = None if "output_file" in _parameters(function) else options.pop("output_file")
    text = json.dumps(call(function, options), sort_keys=True) + "\n"
    if output:
        with open(output, "w", encoding="utf-8") as handle:
            handle.write(text)
    else:
        sys.stdout.write(text)
    return 0


def parser_of(function: Callable[..., Any]) -> argparse.ArgumentParser:
    """Return a parser with a flag for each parameter of the function."""
    about = (inspect.getdoc(function) or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=about.replace("%", "%%"))
    for parameter in _parameters(function).values():
        if parameter.kind != parameter.VAR_KEYWORD:
            parser.add_argument(option_of(parameter.name), dest=parameter.name, **flag_of(function, parameter))
    if "output_file" not in _parameters(function):
        parser.add_argument("--output-file", help="write the metrics there instead of printing them")
    return parser


def option_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def flag_of(function: Callable[..., Any], parameter: inspect.Parameter) -> Dict[str, Any]:
    """Return the settings of ``add_argument`` for int, float, str, bool, list[T] and Literal; other types are JSON."""
    default = parameter.default
    settings: Dict[str, Any] = {"required": True} if default is parameter.empty else {"default": default}
    kind = _annotation(function, parameter)
    arguments = list(getattr(kind, "__args__", None) or ())
    origin = getattr(kind, "__origin__", None)
    if kind is bool:
        settings.update(type=_boolean, nargs="?", const=True, metavar="BOOL")
    elif str(origin).endswith("Literal"):
        settings.update(type=type(arguments[0]), choices=arguments)
    elif kind is list or str(getattr(origin, "__name__", origin)) in ("list", "List", "Sequence"):
        settings.update(type=next((item for item in arguments if item in (int, float, str)), str), nargs="+")
    else:
        settings.update(type=kind if kind in (int, float, str) else _json_or_text)
    return settings


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the parameter's type without Optional, or the type of its default."""
    try:
        kind = get_type_hints(function).get(parameter.name)
    except Exception:  # noqa: BLE001 - an annotation may name something that is not imported
        kind = None
    if kind is None and parameter.default not in (parameter.empty, None):
        return type(parameter.default)
    options = [option for option in getattr(kind, "__args__", None) or () if option is not type(None)]
    is_union = getattr(kind, "__origin__", None) is Union or type(kind).__name__ == "UnionType"
    return options[0] if is_union and len(options) == 1 else kind


def _boolean(text: str) -> bool:
    word = text.lower()
    if word not in ("true", "1", "yes", "on", "false", "0", "no", "off"):
        raise argparse.ArgumentTypeError("%r is neither true nor false" % text)
    return word in ("true", "1", "yes", "on")


def _json_or_text(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters
