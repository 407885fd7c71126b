"""Start the executor of a task with the task's parameters. Written by hpc-agent; needs Python 3.6 and nothing else.

    python3 .hpc/cli.py                                         # in a task: the parameters come from HPC_KW_JSON
    python3 .hpc/cli.py executors/ridge.py '{"horizon": 5}'     # by hand

FLAGS in tasks.py says how each parameter is spelt on the command line of each executor. A name with a colon,
"train.py:fit", is a function: it is called with the parameters, and its result becomes the task's metrics.
"""

import importlib.util
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def main(words):
    flags = load_flags()
    kwargs = json.loads(words[1] if len(words) > 1 else os.environ.get("HPC_KW_JSON") or "{}")
    entry = choose(flags, words[0] if words else kwargs.get("executor"))
    if ":" in entry:
        from hpc_agent.experiment_kit.task import run_function

        return run_function(entry, ROOT, kwargs)
    script = os.path.join(ROOT, *entry.split("/"))
    command = [sys.executable, script] + command_line(flags[entry], kwargs)
    sys.stdout.flush()
    os.execv(sys.executable, command)


def load_flags():
    """Return FLAGS of the tasks.py beside this file."""
    sys.path[0:1] = [ROOT, HERE, os.path.join(HERE, "_hpc_kit")]
    spec = importlib.util.spec_from_file_location("tasks", os.path.join(HERE, "tasks.py"))
    tasks = importlib.util.module_from_spec(spec)
    sys.modules["tasks"] = tasks
    spec.loader.exec_module(tasks)
    return tasks.FLAGS


def choose(flags, name):
    """Return the key of the executor with this path or short name; a single executor needs no name."""
    short = {key: os.path.splitext(os.path.basename(key.partition(":")[0]))[0] for key in flags}
    found = [key for key in flags if name in (None, key, short[key], key.rpartition(":")[2])]
    if len(found) != 1:
        raise SystemExit("executor %r is not one of %s" % (name, ", ".join(flags)))
    return found[0]


def command_line(flags, kwargs):
    """Return the words for these parameters, positional ones first; a parameter that is None gets no word."""
    positional, options = [], []
    for flag in flags:
        value = os.path.expandvars(flag["value"]) if "value" in flag else kwargs.get(flag["name"])
        if value is not None:
            (options if flag.get("option") else positional).extend(words_of(flag, value))
    return positional + options


def words_of(flag, value):
    option, action = flag.get("option", ""), flag.get("action", "store")
    if option.endswith("="):
        return [option + override(value)]
    if action == "store_true":
        return [option] if value else []
    if action == "store_false":
        return [] if value else [option]
    if action == "boolean_optional":
        return [option if value else flag.get("off") or "--no-" + option[2:]]
    if action == "store_bool":
        return spelt(option, [str(bool(value))])
    if action == "count":
        return [option] * int(value)
    values = value if isinstance(value, (list, tuple)) and flag.get("type") != "json" else [value]
    if flag.get("nargs") == ",":
        return spelt(option, [",".join(text(flag, item) for item in values)])
    if action == "append":
        return [word for item in values for word in spelt(option, [text(flag, item)])]
    return spelt(option, [text(flag, item) for item in values])


def spelt(option, words):
    """Return --name=value, so that a value may begin with a dash; several values follow the option."""
    if option.startswith("--") and len(words) == 1:
        return [option + "=" + words[0]]
    return ([option] if option else []) + words


def text(flag, value):
    if flag.get("type") == "json" or isinstance(value, (dict, list, tuple)):
        return json.dumps(value)
    if value is False and flag.get("type") == "bool":
        return ""  # argparse's type=bool reads an empty text as false
    if flag.get("type") == "float" and isinstance(value, int) and float(value) == value:
        return str(float(value))  # a configurator refuses 1 where the default is 1.0
    return str(value)


def override(value):
    """Return a value as hydra and OmegaConf read it after "key="; text that they would take for something else is quoted."""
    if isinstance(value, (list, tuple)):
        return "[%s]" % ",".join(override(item) for item in value)
    if isinstance(value, dict):
        return "{%s}" % ",".join("%s:%s" % (name, override(item)) for name, item in value.items())
    if not isinstance(value, str):
        return json.dumps(value)
    if re.match(r"[A-Za-z_/][A-Za-z0-9_/.-]*\Z", value) and value.lower() not in (
        "true",
        "false",
        "null",
        "nan",
        "inf",
    ):
        return value
    # Hydra reads a backslash as it is, but before a quote.
    return '"%s"' % re.sub(r'(\\*)("|\Z)', lambda end: end[1] * 2 + ("\\" + end[2] if end[2] else ""), value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
