"""What the host tells its template browser about the shipped workflows."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.json"))
PACK = "ComfyUI-AdaptiveSR"


def test_the_host_lists_every_workflow_and_nothing_else(client):
    listed = client.get("/api/workflow_templates")[PACK]
    assert sorted(listed) == [file.stem for file in WORKFLOWS]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_the_host_serves_the_workflow_and_its_thumbnail(client, file):
    for name in (file.name, f"{file.stem}.jpg"):
        assert client.request(f"/api/workflow_templates/{PACK}/{name}") == (FOLDER / name).read_bytes()
