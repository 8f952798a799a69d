"""Sends the bytes to a server, and gives it half a second to answer."""
import socket
import sys

protocol, address, port, data = sys.argv[1:]
server = (address, int(port))
if protocol == "tcp":
    connection = socket.create_connection(server, timeout=5)
    connection.sendall(bytes.fromhex(data))
    connection.shutdown(socket.SHUT_WR)
else:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_DGRAM)
    connection.sendto(bytes.fromhex(data), server)
connection.settimeout(0.5)
try:
    while connection.recv(65536):
        pass
except (TimeoutError, ConnectionError):
    pass
