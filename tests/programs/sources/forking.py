"""A process for each connection: prints each line that it is sent."""
import socketserver
import sys


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        print(self.rfile.readline().decode(), flush=True)


class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True


Server(("", int(sys.argv[1])), Handler).serve_forever()
