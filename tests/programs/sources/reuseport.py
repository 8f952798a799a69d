"""Two workers share a port by SO_REUSEPORT: each prints the lines it is sent."""
import os
import socket
import sys

os.fork()
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("", int(sys.argv[1])))
listener.listen()
while True:
    connection, _ = listener.accept()
    print(connection.makefile().readline(), flush=True)
    connection.close()
