"""Serves the listener that it was handed as descriptor 3 (sd_listen_fds(3))."""
import os
import socket

assert os.environ["LISTEN_FDS"] == "1" and int(os.environ["LISTEN_PID"]) == os.getpid()
listener = socket.socket(fileno=3)
while True:
    connection, _ = listener.accept()
    print(connection.makefile().readline(), flush=True)
    connection.close()
