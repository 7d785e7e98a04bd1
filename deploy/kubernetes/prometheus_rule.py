"""Print the PrometheusRule of the Prometheus Operator that says what `deploy/prometheus/rules.yml` says: `make rules`.

The groups are taken over as they are written, comments too; only the frame is ours.
"""

import sys
from pathlib import Path

_RULES = Path(__file__).parent.parent / "prometheus" / "rules.yml"
_FRAME = """\
# Made from deploy/prometheus/rules.yml by `make rules`. Edit that.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: poller
  labels: {app.kubernetes.io/name: poller}
spec:
"""


def prometheus_rule(rules: str) -> str:
    """The manifest.

    Args:
        rules: a rule file of Prometheus.
    """
    return _FRAME + "".join(f"  {line}\n" if line else "\n" for line in rules.splitlines())


if __name__ == "__main__":
    sys.stdout.write(prometheus_rule(_RULES.read_text()))
