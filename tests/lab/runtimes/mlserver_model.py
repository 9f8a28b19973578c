"""For model-settings.json: implementation mlserver_model.Model."""

from answering import ClientFault, answer
from mlserver import MLModel
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Model(MLModel):
    """The model."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The model's answer; its refusal is a 400."""
        try:
            y = answer(payload.inputs[0].data[0])
        except ClientFault as fault:
            raise InferenceError(str(fault)) from fault
        output = ResponseOutput(name="y", shape=[1], datatype="FP64", data=[y])
        return InferenceResponse(model_name=self.name, outputs=[output])
