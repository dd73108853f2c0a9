from __future__ import annotations

import asyncio
import socket

from api.serving import listening


def test_small_answers_are_sent_at_once() -> None:
    """Nagle's algorithm beside delayed acknowledgements would hold each of them back by 40 ms."""
    assert asyncio.run(_delays_off())


async def _delays_off() -> bool:
    found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: socket.socket = writer.get_extra_info("socket")
        found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listening("127.0.0.1", 0) as listener:
        async with await asyncio.start_server(accepted, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            writer.close()
            return bool(await asyncio.wait_for(found, 10))
