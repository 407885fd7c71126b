"""Words that are no verbs: their output is not an envelope. Module and function: argv in, exit code out."""

PROGRAMS = {"completion": "hpc_agent.cli.completion:main", "mcp": "hpc_agent.mcp_server:main"}
