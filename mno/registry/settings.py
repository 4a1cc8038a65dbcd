"""Where MLflow keeps what it remembers, and how it behaves in a workspace.

By default that is `mlflow.db` and `mlartifacts/` in the workspace. Where `MLFLOW_TRACKING_URI` is
set by the user, that server keeps runs, artifacts and models. It may also name a database, as
`postgresql+psycopg://…`; new experiments then keep their files at `MLFLOW_DEFAULT_ARTIFACT_ROOT`.
"""

import os
import socket
import sqlite3
import time
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import locked, replacing

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
_BEHAVIOUR = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A server that is started anew meanwhile is waited for; one that hangs, for some minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_TRACKING = "MLFLOW_TRACKING_URI"
_FILES = "MLFLOW_DEFAULT_ARTIFACT_ROOT"  # as MLflow's own server reads it
_PATIENCE = 60.0  # seconds for a server that is started anew
_EACH = 10.0  # seconds that one look at it may take
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def model_name(subject: str) -> str:
    """Return the name under which models are registered (`mno.core.config.model_subject`)."""
    return f"mno-{subject}"


def import_mlflow() -> Any:
    """Import MLflow (1.6 s) with telemetry, pickle and chatter off."""
    for name, value in _BEHAVIOUR.items():
        os.environ.setdefault(name, value)
    import mlflow

    return mlflow


class Workspace:
    """The MLflow of a workspace; its client is imported and connected when it is first used."""

    def __init__(self, root: Path) -> None:
        self.root, self.embedded = root.resolve(), is_embedded(root)

    @cached_property
    def client(self) -> "MlflowClient":
        """Talks to tracking and registry, and points MLflow's own functions at them.

        An `MnoError` says that the server cannot be reached, or `mlflow.db`, which is not touched,
        is not a database that this version of MLflow can use.
        """
        mlflow = import_mlflow()
        prepare(self.root)
        uri, wished = registry_uri(self.root), _TRACKING in os.environ
        require_answer(uri, _PATIENCE)
        mlflow.set_tracking_uri(uri)
        os.environ.pop("MLFLOW_REGISTRY_URI", None)  # models are where the runs are
        if not wished:  # MLflow writes there what would pass for a user's wish
            os.environ.pop(_TRACKING, None)
        try:
            client = mlflow.MlflowClient()
            client.search_experiments(max_results=1)
        except Exception as error:  # sqlalchemy's, alembic's or MLflow's own
            said = first_line(error).replace(uri, without_password(uri))
            raise MnoError(f"MLflow at {without_password(uri)} cannot be used: {said}") from None
        return client

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, made if need be; refuse files of another workspace."""
        from mlflow.exceptions import MlflowException

        folder = str(self.root / ARTIFACTS / name) if self.embedded else None
        if (found := self.client.get_experiment_by_name(name)) is None:
            place = folder or _place_of_files(name)
            try:
                tags = {"mlflow.note.content": f"Surrogates of {name}: a run for each training."}
                return self.client.create_experiment(name, artifact_location=place, tags=tags)
            except MlflowException:
                found = self.client.get_experiment_by_name(name)
                if found is None:  # nobody else was first
                    raise
        if folder and Path(found.artifact_location.removeprefix("file://")) != Path(folder):
            raise MnoError(
                f"{self.root / DATABASE} belongs to another folder: it keeps the files of "
                f"{name} in {found.artifact_location}; move the workspace back, or remove "
                f"{DATABASE} and let the models of this folder be registered again"
            )
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id


def use_workspace(root: Path) -> Workspace:
    """Point MLflow at a workspace; make its database the first time (1.3 s)."""
    workspace = Workspace(root)
    _ = workspace.client
    return workspace


def prepare(root: Path) -> None:
    """Make `mlflow.db`, whole or not at all, if it is to live here; refuse a file that is none."""
    root = root.resolve()
    database = root / DATABASE
    if not is_embedded(root):
        return
    if database.exists():
        return _require_database(database)
    import_mlflow()
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    registry_uri(root)  # refuses a path that cannot be one, before anything is made
    with locked(root / f"{DATABASE}.making", f"making {DATABASE}", patience=60.0):
        if database.exists():  # somebody else was first
            return
        with replacing(database) as partial:
            engine = create_sqlalchemy_engine(f"sqlite:///{partial}")
            try:
                _initialize_tables(engine)
            finally:
                engine.dispose()


def registry_uri(root: Path) -> str:
    """Return the URI of the tracking server or database; refuse a path that cannot be in one."""
    if not is_embedded(root):
        return os.environ[_TRACKING]
    uri = _database_uri(root)
    if any(sign in uri for sign in "%?#"):
        raise InputError(
            f"{root}: MLflow cannot keep a database under a path with %, ? or #; "
            f"rename the folder, or set {_TRACKING}"
        )
    return uri


def is_embedded(root: Path) -> bool:
    """Tell whether MLflow's database lies in the workspace."""
    return os.environ.get(_TRACKING) in (None, "", _database_uri(root))


def _place_of_files(name: str) -> str | None:
    """Return where a new experiment's files go in a store of the user's; none to let it choose.

    A server chooses well. Without one MLflow would choose a folder of whoever happens to be first.
    """
    store = os.environ.get(_TRACKING, "")
    if urlsplit(store).scheme.startswith(("http", "databricks", "file")) or "://" not in store:
        return None
    if not (place := os.environ.get(_FILES)):
        raise InputError(
            f"{_TRACKING}={without_password(store)} is a database, which keeps no files; set "
            f"{_FILES} to where they go, for example s3://bucket/mlflow, or name a server of "
            "MLflow's"
        )
    return f"{place.rstrip('/')}/{name}"


def _database_uri(root: Path) -> str:
    return f"sqlite:///{root.resolve() / DATABASE}"


def _require_database(path: Path) -> None:
    """Look before MLflow does: it would retry for minutes, then show a traceback."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("SELECT 1 FROM alembic_version")
    except sqlite3.Error as error:
        raise MnoError(
            f"{path} is not a database of MLflow ({error}); "
            "move it away, and the registered models are made again"
        ) from None


def require_answer(uri: str, patience: float) -> None:
    """Wait so many seconds until MLflow's server accepts connections; a file needs none."""
    parts, deadline = urlsplit(uri), time.monotonic() + patience
    while parts.hostname:
        try:
            if port := parts.port or _PORTS.get(parts.scheme.partition("+")[0]):
                socket.create_connection((parts.hostname, port), timeout=_EACH).close()
            return
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                raise MnoError(
                    f"MLflow at {without_password(uri)} does not answer ({first_line(error)}); is "
                    "it running? MLFLOW_TRACKING_URI says where it is. Run again when it is: what "
                    "is finished is kept"
                ) from None
        time.sleep(1.0)


def without_password(uri: str) -> str:
    """Return an address as it may be shown."""
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri
