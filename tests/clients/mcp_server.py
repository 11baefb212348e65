"""An MCP server by the Python SDK, whose tools a test changes while it runs.

Usage: mcp_server.py PORT. Beside `/mcp` there are `POST /change {"add": description or null}`,
which describes the tool `add` anew or takes it away, and `GET /calls`, which tells the calls
that came, with what they brought.
"""

import asyncio
import json
import sys

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from starlette.responses import JSONResponse

PORT = int(sys.argv[1])
calls = []
server = MCPServer("ledger", log_level="WARNING")


def headers(ctx: Context) -> dict:
    request = ctx.request_context.request
    return dict(request.headers) if request is not None else {}


def add(a: int, b: int, ctx: Context) -> int:
    calls.append({"tool": "add", "a": a, "b": b, "headers": headers(ctx)})
    return a + b


def fail(ctx: Context) -> str:
    calls.append({"tool": "fail", "headers": headers(ctx)})
    raise ToolError("the ledger is closed")


def echo(ctx: Context) -> dict:
    """Tells every header that came."""
    calls.append({"tool": "echo", "headers": headers(ctx)})
    return headers(ctx)


async def hang(ctx: Context) -> str:
    calls.append({"tool": "hang", "headers": headers(ctx)})
    await asyncio.sleep(600)
    return "late"


listed = {"add"}
server.add_tool(add, description="Adds two numbers.")
server.add_tool(fail, description="Always fails.")
server.add_tool(echo)
server.add_tool(hang)


@server.custom_route("/change", methods=["POST"])
async def change(request):
    wanted = json.loads(await request.body())
    if "add" in listed:
        server.remove_tool("add")
        listed.remove("add")
    if wanted["add"] is not None:
        server.add_tool(add, description=wanted["add"])
        listed.add("add")
    return JSONResponse({})


@server.custom_route("/calls", methods=["GET"])
async def told(_request):
    return JSONResponse(calls)


server.run(transport="streamable-http", host="127.0.0.1", port=PORT)
