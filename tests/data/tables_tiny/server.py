"""Runs `mvtf-eval` command lines in fresh processes at the price of one import.

Imports everything once; for each line {"argv", "out"} on stdin it forks a child that becomes `mvtf-eval argv`
with stdout and stderr in the files `<out>.out` and `<out>.err`. Prints the child's pid, then its exit code.
"""

import json
import os
import sys
from pathlib import Path

import torch  # noqa: F401  # before any fork

from mvtokenflow.eval import cli, evaluators, scoring, tabulate  # noqa: F401

for line in sys.stdin:
    request = json.loads(line)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{request['out']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.chdir(Path(request["out"]).parent)
        sys.argv = ["mvtf-eval", *request["argv"]]
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 70
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
