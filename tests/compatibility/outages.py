"""The server's outages, as ``outages.mjs`` has them: the test kills and starts it when told to."""

import faulthandler
import json
import sys

PATIENCE_S = 120
"""Not a judgement on speed: what never happens ends the program, with what it waits for."""

faulthandler.dump_traceback_later(PATIENCE_S, exit=True)


def order(word: str) -> None:
    """``kill`` (SIGKILL) or ``start``, on the same directory and port; return when it is done."""
    print(word, flush=True)
    sys.stdin.readline()


def finish(outcome: object) -> None:
    """Say what became of everything."""
    print(json.dumps(outcome), flush=True)
