"""`surefoot watch`."""

from pathlib import Path

import tyro

from surefoot.report.finished import find_runs
from surefoot.report.watching import WatchServer


def command_watch(run: tyro.conf.Positional[Path], /, port: int = 0) -> int:
    """Show the learning curves of a run in a browser while it trains.

    The page is that of `surefoot report`, without what needs an evaluation. It asks for new metrics every
    few seconds. Only this machine reaches it. Ctrl-C ends it; training is not touched.

    Args:
        run: The run folder, or the folder of several seeds.
        port: The port of the page; 0 for any that is free.
    """
    with WatchServer(find_runs([run]), port) as server:
        print(f"watching {run} at {server.address} (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    return 0
