"""Flow runs whose process was killed, which Prefect would call running for ever.

Nobody but the workspace can tell that they are dead: Prefect's server hears nothing of a kill. So a
run of the line leaves its id in a file while it is at work, and the next one, which holds the lock
on runs, knows of a file that it finds that its run is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Crashed

from flows.scheduling.plan import read_json, write_json
from mno.errors import first_line

FILE = Path("build/flow_run.json")
KILLED = "its process was killed; what it had finished is kept"


@contextmanager
def at_work(root: Path, run: str | None, warn: Callable[[str], None]) -> Iterator[None]:
    """Leave a run's id while the body runs; set the run crashed that was killed before it.

    Args:
        root: The workspace, of which no other run is alive.
        run: The flow run's id; none where Prefect does not know the run.
        warn: Is handed a line if Prefect cannot be told.
    """
    file = root / FILE
    killed = read_json(file).get("id")
    if killed and killed != run:
        set_crashed(killed, KILLED, warn)
    if run:
        write_json(file, {"id": run})
    yield
    file.unlink(missing_ok=True)  # after an error the next run looks whether Prefect knows of it


def set_crashed(run: str, said: str, warn: Callable[[str], None]) -> None:
    """Have Prefect know that a flow run was killed.

    Args:
        run: Its id.
        said: What is known of it, in one line.
        warn: Is handed a line if Prefect cannot be told.
    """
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(run)).state
            if state is None or not state.is_final():
                client.set_flow_run_state(UUID(run), Crashed(message=said), force=True)
    except ObjectNotFound:  # of another server
        return
    except (ValueError, RuntimeError, httpx.HTTPError, PrefectHTTPStatusError) as error:
        warn(f"the run {run} was killed, which Prefect was not told: {first_line(error)}")
