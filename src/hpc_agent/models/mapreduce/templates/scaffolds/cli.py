"""Start the executor of a task with the task's parameters. Written by hpc-agent; needs Python 3.6 and nothing else.

    python3 .hpc/cli.py                                         # in a task: the parameters come from HPC_KW_JSON
    python3 .hpc/cli.py executors/ridge.py '{"horizon": 5}'     # by hand

FLAGS in tasks.py says how each parameter is spelt on the command line of each executor, STARTS how an executor is started
that is no plain Python script. A name with a colon, "train.py:fit", is a function: it is called with the parameters, and
its result becomes the task's metrics.
"""

import importlib.util
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
# Words that hydra, or the YAML of OmegaConf, does not take for text.
NO_TEXT = ("true", "false", "yes", "no", "on", "off", "null", "nan", "inf")


def main(words):
    tasks = load_tasks()
    kwargs = json.loads(words[1] if len(words) > 1 else os.environ.get("HPC_KW_JSON") or "{}")
    entry = choose(tasks.FLAGS, words[0] if words else kwargs.get("executor"))
    if ":" in entry:
        from hpc_agent.experiment_kit.task import run_function

        return run_function(entry, ROOT, kwargs)
    if entry.endswith(".ipynb"):
        from hpc_agent.experiment_kit.task import run_notebook

        return run_notebook(entry, ROOT, kwargs)
    start = getattr(tasks, "STARTS", {}).get(entry) or {"words": ["python", entry]}
    for flag in tasks.FLAGS[entry]:
        if "variable" in flag and kwargs.get(flag["name"]) is not None:
            os.environ[flag["variable"]] = text(flag, kwargs[flag["name"]])
    command = [os.path.join(ROOT, entry) if word == entry else word for word in start["words"]]
    return execute(command + command_line(tasks.FLAGS[entry], kwargs), os.path.join(ROOT, start.get("path", "")))


def execute(command, folder):
    """Become the program; Python imports from ``folder`` too. Return the exit code of a shell when it cannot be started."""
    program = sys.executable
    if command[0] == "python":
        command[0] = program
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    else:
        import shutil

        program = shutil.which(command[0]) or command[0]
    sys.stdout.flush()
    try:
        os.execv(program, command)
    except FileNotFoundError:
        sys.stderr.write("%s: command not found\n" % command[0])
        return 127
    except PermissionError:
        sys.stderr.write("%s: Permission denied\n" % program)
        return 126


def load_tasks():
    """Return the tasks.py beside this file."""
    sys.path[0:1] = [ROOT, HERE, os.path.join(HERE, "_hpc_kit")]
    spec = importlib.util.spec_from_file_location("tasks", os.path.join(HERE, "tasks.py"))
    tasks = importlib.util.module_from_spec(spec)
    sys.modules["tasks"] = tasks
    spec.loader.exec_module(tasks)
    return tasks


def choose(flags, name):
    """Return the key of the executor with this path or short name; a single executor needs no name."""
    files = {key: key.partition(":")[0].replace("/__main__.py", "") for key in flags}
    short = {key: os.path.splitext(os.path.basename(files[key]))[0] for key in flags}
    found = [key for key in flags if name in (None, key, short[key], key.rpartition(":")[2])]
    if len(found) != 1:
        raise SystemExit("executor %r is not one of %s" % (name, ", ".join(flags)))
    return found[0]


def command_line(flags, kwargs):
    """Return the words for these parameters, positional ones first; a parameter that is None gets no word.

    A subcommand and its own words follow those of the whole program.
    """
    positional, options, rest = [], [], []
    for flag in flags:
        value = os.path.expandvars(flag["value"]) if "value" in flag else kwargs.get(flag["name"])
        if value is None or "variable" in flag:
            continue
        if "subcommands" in flag:
            rest = [value] + command_line(flag["subcommands"][value], kwargs)
        else:
            (options if flag.get("option") else positional).extend(words_of(flag, value))
    return positional + options + rest


def words_of(flag, value):
    option, action = flag.get("option", ""), flag.get("action", "store")
    if option.endswith("="):
        return [option + override(value)]
    if action in ("store_true", "store_const"):
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
    apart = flag.get("apart", False)
    if flag.get("nargs") == ",":
        return spelt(option, [",".join(text(flag, item) for item in values)], apart)
    if action == "append":
        return [word for item in values for word in spelt(option, [text(flag, item)], apart)]
    return spelt(option, [text(flag, item) for item in values], apart)


def spelt(option, words, apart=False):
    """Return --name=value, so that a value may begin with a dash; several values, or any ``apart``, follow the option."""
    if option.startswith("--") and len(words) == 1 and not apart:
        return [option + "=" + words[0]]
    return ([option] if option else []) + words


def text(flag, value):
    if flag.get("type") == "json" or isinstance(value, (dict, list, tuple)):
        return json.dumps(value)
    if value is False and flag.get("type") == "bool":
        return ""  # argparse's type=bool reads an empty text as false
    if flag.get("type") == "float" and isinstance(value, int) and abs(value) < 1 << 53:
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
    if re.match(r"[A-Za-z_/][A-Za-z0-9_/.-]*\Z", value) and value.lower() not in NO_TEXT:
        return value
    # Hydra reads a backslash as it is, but before a quote.
    return '"%s"' % re.sub(r'(\\*)("|\Z)', lambda end: end[1] * 2 + ("\\" + end[2] if end[2] else ""), value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
