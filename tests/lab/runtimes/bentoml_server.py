"""For `bentoml serve bentoml_server:Model`: POST /predict {"x": 1.5}."""

import bentoml
from answering import ClientFault, answer
from bentoml.exceptions import InvalidArgument


@bentoml.service
class Model:
    """The service."""

    @bentoml.api
    def predict(self, x: float) -> float:
        """The model's answer; its refusal is a 400."""
        try:
            return answer(x)
        except ClientFault as fault:
            raise InvalidArgument(str(fault)) from fault
