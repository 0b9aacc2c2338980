"""The least that a server on trio and h11 can do: read a call, give an answer of the same shape, keep the connection.

`python bench/peers/bare_h11.py` prints its URL. No routes, no tokens, no limits, no audit: the ceiling to measure by.
"""

import json
from contextlib import suppress

import h11
import trio

RESULT = {"resultType": "complete", "content": [{"type": "text", "text": "hello"}], "isError": False}


async def answer(connection: h11.Connection, stream: trio.SocketStream) -> bool:
    """Answer one request; False where the connection is over."""
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        elif not isinstance(event, h11.Request):
            return False
    payload = json.dumps({"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": RESULT}, separators=(",", ":"))
    fields = [("content-type", "application/json"), ("content-length", str(len(payload)))]
    data = b"".join(
        connection.send(event) or b""
        for event in (
            h11.Response(status_code=200, headers=fields),
            h11.Data(data=payload.encode()),
            h11.EndOfMessage(),
        )
    )
    await stream.send_all(data)
    connection.start_next_cycle()
    return True


async def serve(stream: trio.SocketStream) -> None:
    """Answer until the client leaves."""
    connection = h11.Connection(h11.SERVER)
    with suppress(trio.BrokenResourceError):
        while await answer(connection, stream):
            pass


async def main() -> None:
    """Listen on a free port of loopback."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(f"ready at http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/mcp", flush=True)
    await trio.serve_listeners(serve, listeners)


if __name__ == "__main__":
    trio.run(main)
