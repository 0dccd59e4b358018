"""Golden vectors whose checks need the host's networks."""

from pathlib import Path

import pytest
from adaptivesr.tools import golden

FILES = Path(__file__).resolve().parents[1] / "golden" / "hosted"


@pytest.mark.usefixtures("comfy")
def test_all_copied_files_pass(capsys):
    assert golden.run(FILES) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" passed, 0 failed")
