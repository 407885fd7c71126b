"""The parameters of a task, its variables and its result folder. The client checks them with this module before any push."""

import hashlib
import json
import os
import re
import string
import sys
from typing import Any, Dict, List

from .run_folder import RunDocument, campaign_folder

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
THREAD_VARIABLES = tuple(
    "OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS VECLIB_MAXIMUM_THREADS".split()
)
# Variables that the system, the scheduler or hpc-agent itself needs: a kwarg of that name arrives as HPC_KW_* only.
RESERVED = frozenset(
    "PATH HOME USER LOGNAME SHELL PWD OLDPWD LANG TERM TMPDIR HOSTNAME MAIL DISPLAY IFS ENV BASH_ENV CDPATH "
    "LD_LIBRARY_PATH LD_PRELOAD DYLD_LIBRARY_PATH CUDA_VISIBLE_DEVICES RESULT_DIR REPO_DIR TASK_ID JOB_ID NSLOTS "
    "SSH_AUTH_SOCK MODULEPATH LOADEDMODULES RESTARTED ARC QUEUE REQUEST NHOSTS NQUEUES PE PE_HOSTFILE".split()
) | frozenset(THREAD_VARIABLES)
RESERVED_PREFIXES = ("SLURM", "SGE_", "PBS_", "LSB_", "HPC_", "LC_", "PYTHON", "CONDA_", "LD_", "DYLD_", "BASH_")
# Reserved variables that a run's env may set: those for hpc-agent, and those for libraries that start threads.
NO_FORK = "HPC_NO_FORK"
SETTABLE = frozenset(("HPC_PREEMPT_GRACE_SEC", NO_FORK)) | frozenset(THREAD_VARIABLES)
# How every task runs Python.
PYTHON = {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}
DIGEST_BYTES = 4
_SECRET = re.compile(r"PASSW|SECRET|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY|TOKEN(?![A-Z])", re.IGNORECASE)
# What a tokenizer calls a token, measures of tokens, and files whose path is no secret.
_NO_SECRET = re.compile(
    r"(^|_)(PAD|EOS|BOS|UNK|MASK|SEP|CLS|STOP|SPECIAL)_TOKEN|TOKEN_(IDS?|TYPES?|LEN|LENGTH|LIMIT|COUNT|SIZE|DIM|PATTERN)$"
    r"|_(FILE|PATH|DIR)$|^GOOGLE_APPLICATION_CREDENTIALS$",
    re.IGNORECASE,
)
_COUNT = re.compile(r"\s*([-+]?[\d.]+([eE][-+]?\d+)?|true|false|yes|no|on|off|none|auto)?\s*\Z", re.IGNORECASE)
# Linux limits one variable to 128 KiB (MAX_ARG_STRLEN); NAME= needs some of it.
MAX_VALUE_BYTES = 120000
# A file name holds 255 bytes; an attempt's folder has a longer name than the task's.
MAX_NAME_BYTES = 200
# Names in a run's folder that a result folder may not have.
OWN_NAMES = frozenset(
    "_combiner checkpoints claims digests.bin elements environment.json jobs logs new_plan.json outputs reductions resubmits "
    "rungs run.json status_cache.json submission.json submit.lock survey.json tasks tasks.jsonl work".split()
)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_SORTED = json.JSONEncoder(sort_keys=True)


def load_tasks(path: str) -> Any:
    """Import the file ``path`` as the module ``tasks``, without a bytecode cache.

    Its folder, the repo, and the experiment kit of the run are importable.
    """
    import importlib.util

    sys.dont_write_bytecode = True
    here = os.path.dirname(path)
    for folder in (os.path.join(here, "_hpc_kit"), os.path.dirname(here), here):
        if folder not in sys.path and os.path.isdir(folder):
            sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location("tasks", path)
    if spec is None or spec.loader is None:
        raise ImportError("cannot import %s" % path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tasks"] = module
    spec.loader.exec_module(module)
    return module


def canonical(kwargs: Dict[str, Any]) -> bytes:
    """Return the bytes that identify the parameters of a task: compact JSON with sorted keys."""
    return _CANONICAL.encode(kwargs).encode("ascii")


def digest(kwargs: Dict[str, Any]) -> bytes:
    return hashlib.sha256(canonical(kwargs)).digest()[:DIGEST_BYTES]


def looks_secret(name: str, value: str) -> bool:
    """Return True for a variable such as HF_TOKEN or db_password. MAX_TOKENS and the path of a file with one are none."""
    sign = _SECRET.search(name)
    if not sign or _NO_SECRET.search(name):
        return False
    return sign.group().upper() != "TOKEN" or not _COUNT.match(value)


def is_reserved(name: str) -> bool:
    """Return True when a kwarg called ``name`` may not become a variable of that name."""
    upper = name.upper()
    return upper in RESERVED or upper.startswith(RESERVED_PREFIXES)


def text_of(value: Any) -> str:
    """Return a kwarg as the text of its variable: str() for scalars, nothing for None, JSON for lists and objects."""
    if value is None:
        return ""
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    return str(value)


def problems(kwargs: Dict[str, Any]) -> List[str]:
    """Return the reasons why these kwargs cannot become variables; an empty list when they can."""
    found: List[str] = []
    seen: Dict[str, str] = {}
    for name, value in kwargs.items():
        if not isinstance(name, str) or not ENV_NAME.match(name):
            found.append("%r is not a valid variable name (letters, digits and _, not starting with a digit)" % (name,))
            continue
        first = seen.setdefault(name.upper(), name)
        if first != name:
            found.append("%r and %r are the same variable in capitals" % (first, name))
        text = text_of(value)
        if "\0" in text:
            found.append("%r holds a NUL character, which no environment variable can" % name)
        if len(text.encode("utf-8", "surrogatepass")) > MAX_VALUE_BYTES:
            found.append("%r is longer than %d bytes: put it into a file and pass its path" % (name, MAX_VALUE_BYTES))
    if found:
        return found
    try:  # all kwargs are one variable as well (HPC_KW_JSON)
        json.dumps(kwargs, ensure_ascii=False).encode("utf-8")
        if len(json.dumps(kwargs)) > MAX_VALUE_BYTES:
            found.append(
                "all values together are longer than %d bytes: put them into a file and pass its path" % MAX_VALUE_BYTES
            )
    except UnicodeEncodeError:
        return ["a value holds half of a surrogate pair, which is no text that a variable can carry"]
    except (TypeError, ValueError):
        pass  # the canonical JSON of the parameters fails with a clearer message
    return found


def result_folder(template: str, run_id: str, task: int, kwargs: Dict[str, Any]) -> str:
    """Return a task's result folder, below the run's. Raises KeyError, IndexError or ValueError for a bad template."""
    for _, field, spec, conversion in string.Formatter().parse(template):
        if field is not None and (not ENV_NAME.match(field) or spec or conversion):
            raise ValueError("{%s} is not the plain name of a field" % field)
    plain = {key: re.sub(r"[^A-Za-z0-9._=+-]", "_", text_of(value)) for key, value in kwargs.items()}
    names = {key: text.lstrip(".") or "_" for key, text in plain.items()}
    names.update(task_id=str(task), run_id=run_id)
    folder = os.path.normpath(template.format(**names))
    if os.path.isabs(folder) or folder.startswith("..") or folder == ".":
        raise ValueError("the result folder %r is not inside the run's folder" % folder)
    parts = folder.split(os.sep)
    if parts[0].lower() in OWN_NAMES or parts[0].startswith("."):
        raise ValueError("%r belongs to hpc-agent; begin with another folder, such as results" % parts[0])
    if any(len(part.encode("utf-8")) > MAX_NAME_BYTES for part in parts):
        raise ValueError("a folder name is longer than %d bytes" % MAX_NAME_BYTES)
    return folder


class TaskEnvironment(object):
    """The variables of the tasks of one element. Those that all of them share are made once."""

    def __init__(self, run: RunDocument, run_path: str, inherited: Dict[str, str]) -> None:
        work = os.path.join(run_path, "work")
        kit = os.path.join(work, ".hpc", "_hpc_kit")  # the experiment kit as it was when the run was frozen
        self._run = run
        self.common = dict(inherited)
        self.common.update(dict.fromkeys(THREAD_VARIABLES, str(run.resources.get("cpus") or 1)))
        paths = (work, kit, inherited.get("PYTHONPATH", ""))
        self.common.update(PYTHON, PYTHONPATH=os.pathsep.join(path for path in paths if path))
        self.common.update({str(k): str(v) for k, v in run.env.items()})
        self.common.update(
            HPC_RUN_ID=run.run_id,
            HPC_TASK_COUNT=str(run.task_count),
            HPC_RUN_DIR=run_path,
            REPO_DIR=work,
            HPC_CMD_SHA=run.cmd_sha,
            HPC_CAMPAIGN_ID=run.campaign_id or "",
        )
        if run.trials:
            root = os.path.dirname(os.path.dirname(run_path))
            self.common["HPC_CAMPAIGN_DIR"] = campaign_folder(root, str(run.campaign_id))
        if run.early_stop:  # the rungs are in the campaign's folder, else in the run's
            self.common["HPC_EARLY_STOP"] = json.dumps(run.early_stop, sort_keys=True)

    def of(self, task: int, kwargs: Dict[str, Any], result_dir: str) -> Dict[str, str]:
        """Return the variables of one task. No parameter replaces one that hpc-agent sets."""
        env = dict(self.common)
        for name, value in kwargs.items():
            text = text_of(value)
            env["HPC_KW_" + name.upper()] = text
            if not is_reserved(name):
                env[name.upper()] = text
        env["HPC_KW_JSON"] = _SORTED.encode(kwargs)
        env["HPC_TASK_ID"] = str(task)
        env["HPC_RESULT_DIR"] = env["RESULT_DIR"] = result_dir
        if self._run.trials:
            env["HPC_TRIAL"] = str(self._run.trials[task])
        return env


def build(
    run: RunDocument, run_path: str, task: int, kwargs: Dict[str, Any], result_dir: str, inherited: Dict[str, str]
) -> Dict[str, str]:
    """Return every variable of the executor, those that the job ``inherited`` included."""
    return TaskEnvironment(run, run_path, inherited).of(task, kwargs, result_dir)
