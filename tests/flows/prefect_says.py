"""What a Prefect server says of one flow run: its log, its artifacts."""

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact


def log_of(client: SyncPrefectClient, run: UUID) -> list[str]:
    """The messages of a run's log."""
    return [log.message for log in client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])))]


def artifacts_of(client: SyncPrefectClient, run: UUID) -> dict[str, Artifact]:
    """The artifacts of a run, by key; of several with one key, as after another try, the last one."""
    found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run])))
    found.sort(key=lambda artifact: str(artifact.created))
    return {artifact.key or "": artifact for artifact in found}
