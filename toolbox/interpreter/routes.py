"""Routes of `/process/interpreter`."""

import asyncio

from aiohttp import WSCloseCode, web

from toolbox.errors import BadRequest, NotFound
from toolbox.interpreter.contexts import Contexts
from toolbox.interpreter.kernels import Kernels
from toolbox.interpreter.models import (
    DEFAULT_TIMEOUT,
    CreateContextRequest,
    DeleteContextResponse,
    ExecuteRequest,
    InterpreterContext,
    InterruptResponse,
    LanguagesResponse,
    ListContextsResponse,
    Message,
)
from toolbox.interpreter.run import Outcome, Run
from toolbox.web import wire
from toolbox.web.endpoint import Routes
from toolbox.web.websocket import Socket, Sockets, require_upgrade

routes = Routes("interpreter")

MAX_REQUEST = 64 * 1024 * 1024
STALL_SECONDS = 30.0
"""How long a client may take nothing at all before it counts as gone: it holds the kernel."""
INTERRUPTED_CODE = 4008
"""Close code of a run that was interrupted or took too long (contract, section 5)."""


@routes.post("/process/interpreter/context", "CreateInterpreterContext")
async def create_context(body: CreateContextRequest, contexts: Contexts) -> InterpreterContext:
    """Make a context, which keeps variables between its runs."""
    return await contexts.create(body.cwd, body.language)


@routes.get("/process/interpreter/context", "ListInterpreterContexts")
async def list_contexts(contexts: Contexts) -> ListContextsResponse:
    """List the contexts that were made; the default one is always there and not among them."""
    return ListContextsResponse(contexts=contexts.all())


@routes.delete("/process/interpreter/context/{context_id}", "DeleteInterpreterContext")
async def delete_context(context_id: str, contexts: Contexts) -> DeleteContextResponse:
    """End a context with all its processes."""
    await contexts.delete(context_id)
    return DeleteContextResponse(message="Context deleted successfully")


@routes.post("/process/interpreter/context/{context_id}/interrupt", "InterruptInterpreterContext")
async def interrupt_context(context_id: str, contexts: Contexts) -> InterruptResponse:
    """Interrupt what runs in a context (`default` too). Its variables stay; what waits for its turn runs."""
    return InterruptResponse(interrupted=contexts.interrupt(context_id))


@routes.get("/process/interpreter/languages", "ListInterpreterLanguages")
async def list_languages(kernels: Kernels) -> LanguagesResponse:
    """List the languages that contexts can have: Python, and the kernels that are installed."""
    return LanguagesResponse(languages=await kernels.languages.all())


@routes.get("/process/interpreter/execute", "ExecuteInterpreterCode", status=101)
async def execute(request: web.Request, contexts: Contexts, sockets: Sockets) -> web.WebSocketResponse:
    """Run code in a context, by websocket: one message asks, the answers come as they happen.

    Close codes: 1000 when it has run (well or not), 4008 when it was interrupted or took too long, 1002 and 1008 for a
    request that cannot be carried out. A client that goes away interrupts what it has asked for.
    """
    require_upgrade(request)
    async with Socket(request, sockets, max_message=MAX_REQUEST, max_waiting=1, works=True) as socket:
        await socket.while_open(_serve(socket, contexts))
    return socket.response


async def _serve(socket: Socket, contexts: Contexts) -> None:
    async for message in socket:
        data = message.data
        try:
            asked = wire.decode(data.encode() if isinstance(data, str) else data, ExecuteRequest)
        except BadRequest:
            await socket.close(WSCloseCode.PROTOCOL_ERROR, "invalid JSON payload")
            return
        timeout = asked.timeout if asked.timeout is not None else DEFAULT_TIMEOUT
        try:
            run = contexts.run(asked.context_id, asked.code, env=asked.envs, timeout=timeout)
        except (BadRequest, NotFound) as error:
            await socket.close(WSCloseCode.POLICY_VIOLATION, error.message)
            return
        await _tell(socket, run)
        return


async def _tell(socket: Socket, run: Run) -> None:
    try:
        async for message in run:
            await _deliver(socket, message)
        # On a timeout no control message: a published client would take it for success.
        if run.outcome is not Outcome.TIMED_OUT:
            interrupted = run.outcome is not Outcome.COMPLETED
            await _deliver(socket, Message(type="control", text="interrupted" if interrupted else "completed"))
    except TimeoutError:
        await socket.close(WSCloseCode.POLICY_VIOLATION, "slow consumer")
        return
    finally:
        run.interrupt(Outcome.ABANDONED)
    if run.outcome is Outcome.COMPLETED:
        await socket.close()
    else:
        await socket.close(INTERRUPTED_CODE, "the kernel had to be restarted, variables are lost" * run.restarted)


async def _deliver(socket: Socket, message: Message) -> None:
    async with asyncio.timeout(STALL_SECONDS):
        await socket.deliver(wire.encode(message).decode())
