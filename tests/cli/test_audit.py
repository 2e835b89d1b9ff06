"""`smd audit` prints what was found, and its exit code says whether to act."""

from __future__ import annotations

import json
from pathlib import Path

from audited import recorded, sgd, stepping_with


def test_exit_codes_and_json(smd, tmp_path: Path) -> None:
    good = recorded(tmp_path / "good", sgd)
    bad = recorded(tmp_path / "bad", stepping_with(sgd, weight_decay=0.0))
    code, out, _ = smd("audit", good)
    assert code == 0
    assert "every replayed step is the rule's" in out
    code, out, _ = smd("audit", bad)
    assert code == 1
    assert "steps as if weight decay were 0: declared 0.01" in out
    code, out, _ = smd("audit", bad, "--json")
    assert code == 1
    found = json.loads(out)
    assert found["alarm"] is True
    assert found["groups"][0]["audited"]["onset"] == [4, 5]
    assert found["groups"][0]["audited"]["clipped_at"] is None
    code, _, err = smd("audit", tmp_path / "none")
    assert code == 2
    assert "none" in err
