"""`python ray_server.py HOST PORT METRICS_PORT FOLDER`: POST /model {"x": 1.5}."""

import sys

import ray
from answering import ClientFault, answer
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse


class Model:
    """The deployment."""

    async def __call__(self, request: Request) -> JSONResponse:
        """The model's answer; its refusal is a 400."""
        try:
            return JSONResponse(answer((await request.json())["x"]))
        except ClientFault as fault:
            return JSONResponse(str(fault), status_code=400)


def main(host: str, port: str, metrics_port: str, folder: str) -> None:
    """Serves until it is told to stop."""
    ray.init(
        include_dashboard=False,
        num_cpus=1,
        object_store_memory=100_000_000,
        log_to_driver=False,
        _metrics_export_port=int(metrics_port),
        _node_ip_address=host,
        _temp_dir=folder,
    )
    serve.start(http_options={"host": host, "port": int(port)})
    deployment = serve.deployment(Model, ray_actor_options={"num_cpus": 0})
    serve.run(deployment.bind(), name="model", route_prefix="/model", blocking=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
