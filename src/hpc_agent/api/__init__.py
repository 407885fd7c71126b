"""The verbs as typed functions: ``from hpc_agent import api; run = api.submit(cluster="local", executor="...")``.

One function a verb, with the fields of its request as keyword arguments and its own result in return. A relative path is
one in the current folder. An error is an ``HpcError`` of ``hpc_agent.errors``, with ``error_code``, ``remediation`` and
``details``. In a notebook a result displays itself as tables. Functions may be called from several threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_agent.api import _generated
from hpc_agent.api._generated import *  # noqa: F403 - the generated names are the surface
from hpc_agent.errors import HpcError as HpcError

__all__ = [*_generated.__all__, "HpcError"]  # noqa: PLE0604 - names, all of them

if not TYPE_CHECKING:  # a type checker would take every name for a function

    def __getattr__(name):
        """Explain an alias of the command line: here a verb has one name."""
        from hpc_agent.contract.envelope import did_you_mean
        from hpc_agent.ops.run.invoke import catalogue

        functions = {alias.replace("-", "_"): verb for verb, e in catalogue().items() for alias in e.aliases}
        known = functions.get(name, "").replace("-", "_")
        hint = f"It is api.{known}." if known else did_you_mean(name, _generated.__all__)
        raise AttributeError(f"hpc_agent.api has no function {name!r}. {hint}".strip())
