"""The lab's gateway agent without an Envoy: routes of a fleet are objects only, as its pods are, and no request comes.

Run as `python -m bench.router SETTINGS`. An Envoy that no request reaches would only take its share of the machine.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from lab.envoy import EnvoyFiles
from lab.gateway import GatewayAgent
from lab.translate import Plan


class NoEnvoy(EnvoyFiles):
    """Has every plan at once."""

    async def apply(self, plan: Plan) -> bool:
        """Nothing to write, nothing that lingers."""
        return False


async def main(settings: dict[str, Any]) -> None:
    """Runs for ever."""
    agent = GatewayAgent(settings)
    agent._envoy = NoEnvoy(Path(settings["folder"]), settings["host"])
    await agent.run()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
