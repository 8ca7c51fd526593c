"""An MCP server with two tools, `inspect` and `convert`, for assistants that run on this machine.

    {"mcpServers": {"medtranslate": {
        "command": "python", "args": ["mcp_server.py", "/data/scans"]}}}

It serves on stdin and stdout, and only what lies in the folders that are named when it starts:
an assistant reads nothing else through it, and writes nothing else. Needs ``pip install mcp``.
"""

import sys
from pathlib import Path
from typing import Any, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

import medtranslate
from medtranslate.errors import MedTranslateError

FOLDERS = [Path(folder).resolve() for folder in sys.argv[1:]]
server = MCPServer("medtranslate", instructions="Results are synthetic: not for diagnosis.")


def allowed(path: str) -> Path:
    """Return a path inside one of the folders; refuse any other, also behind a link."""
    found = Path(path).resolve()
    if not any(found.is_relative_to(folder) for folder in FOLDERS):
        raise ToolError(f"{path}: lies in none of the folders that this server serves")
    return found


@server.tool()
def inspect(path: str) -> dict[str, Any]:
    """Say what scans a file or folder holds: format, modality, shape, spacing, faults."""
    try:
        return medtranslate.inspect(allowed(path)).as_builtins()
    except MedTranslateError as error:
        raise ToolError(str(error)) from error


@server.tool()
def convert(path: str, to: Literal["mri", "ct"], output: str) -> dict[str, Any]:
    """Convert one brain scan to the other modality; return the result's path and the checks.

    The result is synthetic, not for diagnosis. Nothing that exists is replaced.
    """
    try:
        done = medtranslate.convert(allowed(path), to=to, output=allowed(output))
    except MedTranslateError as error:
        raise ToolError(str(error)) from error
    cycle = done.checks.get("cycle_error", {})
    return {
        "output": str(done.output),
        "label": done.synthesis["label"],
        "domain_check": done.checks["domain"]["verdict"],
        "cycle_error_share_of_range": cycle.get("share_of_range"),
        "notes": list(done.notes),
    }


if __name__ == "__main__":
    server.run()
