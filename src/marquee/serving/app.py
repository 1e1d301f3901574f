"""The application: each endpoint checks what is asked, hands it to the model's thread, and answers with JSON."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from starlette.exceptions import HTTPException

from marquee import __version__
from marquee.serving.guard import Guard
from marquee.serving.images import decoded, from_base64, refuse_bombs
from marquee.serving.questions import Advise, Chat, Generate, Predict, Recommend, Reload, Reply
from marquee.serving.refusals import Refusal, refusal_of
from marquee.serving.served import Served
from marquee.serving.service import Service

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": "index.html",
    "/page.js": "page.js",
    "/page.css": "page.css",
    "/docs": "docs.html",
    "/docs.js": "docs.js",
    "/icon.svg": "icon.svg",
}
MOST_ITEMS = 50  # that a search for titles gives
DECODING = 2  # images at once: decoding lets go of the interpreter, but not of its memory


def build(service: Service) -> FastAPI:
    """The application of a service. With its start the golden requests are tried; with its end the queue is emptied."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(asyncio.to_thread(service.warm))]
        if service.settings.reload:
            tasks.append(asyncio.create_task(_look_for_newer(service)))
        yield
        for task in tasks[1:]:
            task.cancel()
        await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="Marquee", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan,
        description="A finished run as a service. Every answer names the run and its fingerprint.",
    )  # fmt: skip
    app.state.service = service
    decoders = asyncio.Semaphore(DECODING)
    _refusals(app, service)

    async def asked(kind: str, question: dict[str, Any], rows: int, name: str) -> Response:
        served, told = await service.ask(kind, question, rows)
        return _answer({"run": served.manifest["id"], "fingerprint": served.fingerprint, name: told}, served)

    def able(kind: str) -> Served:
        """The run, where it does what is asked. Raises Refusal that says what it does instead."""
        served = service.served
        if f"/v1/{kind}" not in served.paths:
            raise Refusal(409, "cannot", f"This run {served.predictor.does}; ask {', '.join(served.paths)}.")
        return served

    @app.post("/v1/recommend", tags=["answers"])
    async def recommend(question: Recommend) -> Response:
        """Items for known users, for histories, or for somebody new with features."""
        able("recommend")
        who = question.asked(service.settings)
        content = {"who": who, "how": question.how(), "explain": question.explain}
        return await asked("recommend", content, max(len(who), 1), "answers")

    @app.get("/v1/items", tags=["answers"])
    async def items(q: str = "", n: int = 10) -> Response:
        """Items whose titles begin with a text, hold it, or are spelt like it."""
        able("items")
        if not q.strip() or len(q) > 300 or not 1 <= n <= MOST_ITEMS:
            raise Refusal(400, "invalid", f"/v1/items?q=TEXT&n=N: TEXT of 1 ... 300 characters, N 1 ... {MOST_ITEMS}.")
        return await asked("items", {"q": q, "n": n}, 1, "items")

    body = {"content": {"application/json": {"schema": Predict.model_json_schema()},
                        "image/*": {"schema": {"type": "string", "format": "binary"}}}}  # fmt: skip

    @app.post("/v1/predict", tags=["answers"], openapi_extra={"requestBody": body})
    async def predict(request: Request) -> Response:
        """Labels of texts or images, with probabilities. One image may be the whole body (image/...)."""
        served = able("predict")
        content = await request.body()
        if request.headers.get("content-type", "").startswith("image/"):
            if served.takes != "image":
                raise Refusal(400, "invalid", f"This run {served.predictor.does}, and an image was sent.")
            images, explain = [content], False
        else:
            question = Predict.model_validate(_json(request, content))
            inputs, explain = question.inputs(served.takes or "", service.settings), question.explain
            if served.takes == "text":
                return await asked(
                    "predict", {"inputs": inputs, "explain": explain}, max(len(inputs), 1), "predictions"
                )
            images = [from_base64(text) for text in inputs]
        pictures = []
        async with decoders:
            await asyncio.to_thread(refuse_bombs, images, service.settings.max_pixels)
            for image in images:
                pictures.append(await asyncio.to_thread(decoded, image, served.decoding))
        return await asked("predict", {"inputs": pictures, "explain": False}, max(len(pictures), 1), "predictions")

    @app.post("/v1/generate", tags=["answers"])
    async def generate(question: Generate) -> Response:
        """New texts, tunes or pictures, with how each came about."""
        question.refuse_long(able("generate").predictor.takes, service.settings)
        return await asked("generate", question.model_dump(), service.settings.batch_rows, "made")

    @app.post("/v1/reply", tags=["answers"])
    async def reply(question: Reply) -> Response:
        """The candidates, by how well they answer what was said."""
        able("reply")
        return await asked("reply", question.model_dump(), 1, "replies")

    @app.post("/v1/advise", tags=["answers"])
    async def advise(question: Advise) -> Response:
        """The moves of a position, the best first."""
        able("advise")
        return await asked("advise", question.model_dump(), 1, "moves")

    @app.post("/v1/chat", tags=["answers"])
    async def chat(question: Chat) -> Response:
        """The guide's reply to the last message, with the row of each fact in it."""
        able("chat")
        return await asked("chat", question.model_dump(), 1, "turn")

    @app.get("/v1/run", tags=["the run"])
    async def run() -> Response:
        """What is served: id, fingerprint, protocol, metrics, what it does, the shadow's overlap."""
        return _answer(service.described(), service.served)

    @app.post("/v1/reload", tags=["the run"])
    async def reload(question: Reload) -> Response:
        """Let the newest run take over, where it shares the protocol and is not significantly worse."""
        if service.settings.token is None:
            raise Refusal(403, "forbidden", "Only a service with a token reloads by request: --token-env NAME.")
        came = await asyncio.to_thread(service.reload, question.force)
        return _answer(came, service.served, status={"refused": 409, "failed": 409}.get(came["outcome"], 200))

    @app.get("/live", tags=["health"])
    async def live() -> Response:
        """200 while the process answers."""
        return _answer({"live": True})

    @app.get("/ready", tags=["health"])
    async def ready() -> Response:
        """200 when the golden requests came out as at training, 503 before and otherwise."""
        service.refuse_unready()
        return _answer({"ready": True, "remarks": service.served.remarks}, service.served)

    @app.get("/metrics", tags=["health"])
    async def metrics() -> Response:
        """Counts and times, as Prometheus reads them."""
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    for path, name in FILES.items():
        app.get(path, include_in_schema=False)(_file(PAGE / name))
    paths = {route.path for route in app.routes if hasattr(route, "path")}
    app.add_middleware(Guard, service=service, paths=paths)
    return app


def _refusals(app: FastAPI, service: Service) -> None:
    """One shape for all that goes wrong."""

    async def refused(request: Request, error: Exception) -> Response:
        found = refusal_of(error)
        if found.status == 500:
            raise error  # the guard logs it
        return _answer(found.body, service.served, status=found.status, headers=found.headers)

    async def misshapen(request: Request, error: RequestValidationError) -> Response:
        # Not what was found there: it may be secret, or no JSON.
        told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3]]
        return _answer({"error": {"code": "invalid", "message": "; ".join(told)}}, service.served, status=400)

    async def unknown(request: Request, error: HTTPException) -> Response:
        message = str(error.detail)
        if error.status_code == 404:
            message = f"There is no such endpoint here; this run answers {', '.join(service.served.paths)}. See /docs."
        code = {404: "no_such_endpoint", 405: "method"}.get(error.status_code, "invalid")
        return _answer({"error": {"code": code, "message": message}}, service.served, status=error.status_code)

    from pydantic import ValidationError

    from marquee.errors import MarqueeError

    for kind in (Refusal, MarqueeError):
        app.add_exception_handler(kind, refused)
    for kind in (RequestValidationError, ValidationError):
        app.add_exception_handler(kind, misshapen)
    app.add_exception_handler(HTTPException, unknown)


def _json(request: Request, content: bytes) -> Any:
    """The body as JSON. Raises Refusal for what is none, or not said to be."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/json":
        raise Refusal(415, "type", f"Content-Type is {kind or 'missing'}; send application/json, or image/....")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid", f"The body is no JSON: {str(error)[:200]}") from None


def _answer(
    content: Any, served: Served | None = None, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    named = {} if served is None else served.headers
    try:
        text = json.dumps(content, allow_nan=False)
    except ValueError:  # NaN is no JSON
        text = json.dumps(_finite(content))
    return Response(text, status, {**named, **(headers or {})}, "application/json")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _file(path: Path) -> Any:
    async def file() -> FileResponse:
        return FileResponse(path)

    return file


async def _look_for_newer(service: Service) -> None:
    while True:
        await asyncio.sleep(service.settings.reload_seconds)
        await asyncio.to_thread(service.look_for_newer)
