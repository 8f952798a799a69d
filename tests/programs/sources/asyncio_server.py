"""asyncio's own way to listen everywhere: prints each line that it is sent."""
import asyncio
import sys


async def serve(reader, writer):
    print((await reader.readline()).decode(), flush=True)
    writer.close()


async def main():
    server = await asyncio.start_server(serve, None, int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
