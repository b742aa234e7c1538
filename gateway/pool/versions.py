"""Workers that get a share of the calls, such as a new version that is tried ("canary").

Each conversation stays with its version. Where no worker of a version can take a call, the others
do.
"""

from collections.abc import Sequence

from gateway.pool.endpoint import Endpoint
from gateway.worker_targets import WHOLE, Target

# The version of all workers without a share.
REST = ""


class Versions:
    """False where no worker has a share."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._shares = {t.name: t.percent for t in targets if t.percent is not None}
        if self._shares:
            self._shares[REST] = WHOLE - sum(self._shares.values())

    def __bool__(self) -> bool:
        return bool(self._shares)

    def choose(self, candidates: Sequence[Endpoint], point: float) -> list[Endpoint]:
        """The candidates of one version, by its share.

        Args:
            point: from 0 to 1, of the conversation, or at random.
        """
        found: dict[str, list[Endpoint]] = {}
        for endpoint in candidates:
            version = endpoint.target if endpoint.target in self._shares else REST
            found.setdefault(version, []).append(endpoint)
        at = point * sum(self._shares[version] for version in found)
        for version in sorted(found):
            at -= self._shares[version]
            if at < 0:
                return found[version]
        # Only versions with a share of 0 are left.
        return max(found.values(), key=len)
