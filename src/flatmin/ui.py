"""The MLflow UI on this machine alone, in its small form: two processes where its default takes ten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flatmin.errors import FlatminError
from flatmin.tracking import tracking_uri
from flatmin.tracking.present import runs_page
from flatmin.tracking.server import EXPERIMENT, FILE
from flatmin.workspace import Workspace

HOST = "127.0.0.1"


def serve(workspace: Workspace, port: int) -> None:
    """Serve until interrupted.

    Raises:
        FlatminError: there is nothing to show yet, or the server could not be started.
    """
    uri = tracking_uri(workspace.root)
    nothing = FlatminError(
        "there are no runs to show yet: `dvc repro` makes them, `flatmin aggregate` rebuilds the view"
    )
    if uri.startswith(FILE) and not Path(uri.removeprefix(FILE)).exists():
        raise nothing
    page = page_of_runs(uri)
    if page is None:
        raise nothing
    command = [sys.executable, "-m", "mlflow", "ui"]
    command += ["--backend-store-uri", uri, "--host", HOST, "--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    print(f"The runs are at http://{HOST}:{port}/{page} (Ctrl-C ends it)")
    print("Saved searches are under Views; select runs and press Compare")
    try:
        code = subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:  # the documented way out
        return
    if code not in (0, -2, 130):
        raise FlatminError(f"the MLflow UI ended with code {code}: is port {port} taken? try --port {port + 1}")


def page_of_runs(uri: str) -> str | None:
    """Return where the UI shows the study's runs, without the server; None where there are none yet.

    The UI opens in its view for language models elsewhere, whatever the experiment's tags say.
    """
    from mlflow import MlflowClient

    found = MlflowClient(tracking_uri=uri).get_experiment_by_name(EXPERIMENT)
    return None if found is None else runs_page(found.experiment_id)
