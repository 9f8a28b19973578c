"""`python kserve_server.py PORT`: POST /v1/models/model:predict {"instances": [1.5]}."""

import sys
from typing import Any

import kserve
from answering import ClientFault, answer
from kserve.errors import InvalidInput


class Model(kserve.Model):
    """The predictor."""

    def __init__(self) -> None:
        super().__init__("model")
        self.ready = True

    def predict(self, payload: dict[str, Any], headers: object = None) -> dict[str, Any]:
        """The model's answer; its refusal is a 400."""
        try:
            return {"predictions": [answer(payload["instances"][0])]}
        except ClientFault as fault:
            raise InvalidInput(str(fault)) from fault


if __name__ == "__main__":
    kserve.ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1).start([Model()])
