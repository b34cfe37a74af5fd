"""A relay in front of a server that falls silent, or cuts connections in the midst of a reply."""

import asyncio
import random
import threading


class Relay:
    """Passes bytes on until it is told otherwise."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.cuts = 0
        # One reply in so many is cut; 0 for none.
        self.one_in = 0
        self.silent = False
        self.tasks = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        listening = asyncio.run_coroutine_threadsafe(self.listen(), self.loop)
        self.port = listening.result()

    def name(self):
        return f"127.0.0.1:{self.port}"

    async def listen(self):
        server = await asyncio.start_server(self.connection, "127.0.0.1", 0)
        return server.sockets[0].getsockname()[1]

    async def connection(self, client_reader, client_writer):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            client_writer.close()
            return
        ways = [self.pass_on(client_reader, writer, False), self.pass_on(reader, client_writer, True)]
        tasks = [asyncio.create_task(way) for way in ways]
        self.tasks.update(tasks)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self.tasks.difference_update(tasks)
        for side in (writer, client_writer):
            side.close()

    async def pass_on(self, reader, writer, replies):
        try:
            while received := await reader.read(65536):
                while self.silent:
                    await asyncio.sleep(0.05)
                if replies and self.one_in and random.randrange(self.one_in) == 0:
                    writer.write(received[: len(received) // 2])
                    await writer.drain()
                    self.cuts += 1
                    return
                writer.write(received)
                await writer.drain()
        except OSError:
            return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self.end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def end(self):
        for task in self.tasks:
            task.cancel()
        # Their connections close in their own time.
        while self.tasks:
            await asyncio.sleep(0.01)
