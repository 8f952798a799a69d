"""A program that does what it is told, one line at a time.

Its servers greet with their name, the address that was asked and the client's,
and then say everything back.
"""
import errno
import os
import socket
import sys
import threading

NAME = sys.argv[1]
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
talks = []
held = []


def shown(address):
    """An IPv4 address in a socket of IPv6 is one all the same."""
    host, port = address[:2]
    host = host.removeprefix("::ffff:")
    return ("[%s]:%d" if ":" in host else "%s:%d") % (host, port)


def endpoint(text):
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


def family(text):
    return socket.AF_INET6 if text.startswith("[") else socket.AF_INET


def greeting(server, client):
    return ("%s %s %s\n" % (NAME, server, shown(client))).encode()


def serve_one(connection, client):
    try:
        connection.sendall(greeting(shown(connection.getsockname()), client))
        for line in connection.makefile("rb"):
            if line == b"bye\n":
                break
            connection.sendall(line)
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def serve_tcp(listener):
    while True:
        try:
            connection, client = listener.accept()
        except OSError:
            return
        threading.Thread(target=serve_one, args=(connection, client), daemon=True).start()


def serve_udp(server):
    while True:
        _, client = server.recvfrom(2048)
        server.sendto(greeting(shown(server.getsockname()), client), client)


def listen(kind, address):
    """`tcp` or `udp`; with `-v6only` for nothing but IPv6."""
    kind, _, only = kind.partition("-")
    server = socket.socket(family(address), KINDS[kind])
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == "tcp"))
    if address.startswith("["):
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only == "v6only"))
    server.bind(endpoint(address))
    if kind == "tcp":
        server.listen(16)
    serve = serve_tcp if kind == "tcp" else serve_udp
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    return shown(server.getsockname())


def client(kind, source, server=""):
    own = socket.socket(family(source or server), KINDS[kind])
    own.settimeout(3)
    if source:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(endpoint(source))
    return own


def connect(server, source=None):
    own = client("tcp", source, server)
    own.connect(endpoint(server))
    talks.append((own, bytearray()))
    return "%d %s" % (len(talks) - 1, read_line(*talks[-1]))


def names(number):
    """What the kernel calls both ends of a connection."""
    own, _ = talks[int(number)]
    return "%s %s" % (shown(own.getsockname()), shown(own.getpeername()))


def say(number, text):
    own, heard = talks[int(number)]
    own.sendall(text.encode() + b"\n")
    return read_line(own, heard)


def hang_up(number):
    own, _ = talks[int(number)]
    own.sendall(b"bye\n")
    if own.recv(1):
        raise OSError(errno.EPROTO, "more came")
    own.close()
    return "closed"


def read_line(own, heard):
    """Unlike a file of the socket, it can be read again after a timeout."""
    while b"\n" not in heard:
        more = own.recv(2048)
        if not more:
            raise OSError(errno.EPIPE, "closed")
        heard += more
    line, _, rest = bytes(heard).partition(b"\n")
    heard[:] = rest
    return line.decode()


def transfer(number, size):
    """Sends so many bytes while it reads them back, and compares."""
    own, _ = talks[int(number)]
    line = bytes(range(11, 256)) * 37 + b"\n"
    lines = int(size) // len(line)
    own.settimeout(60)
    sender = threading.Thread(target=lambda: [own.sendall(line) for _ in range(lines)])
    sender.start()
    stream = b""
    for _ in range(lines):
        while len(stream) < len(line):
            more = own.recv(1 << 16)
            if not more:
                raise OSError(errno.EPIPE, "closed")
            stream += more
        if stream[:len(line)] != line:
            return "changed"
        stream = stream[len(line):]
    sender.join()
    own.settimeout(3)
    return "whole"


def open_udp(server):
    own = client("udp", None, server)
    own.connect(endpoint(server))
    held.append(own)
    return shown(own.getsockname())


def ask_again():
    """By the socket that was opened last."""
    held[-1].send(b"?\n")
    return held[-1].recv(2048).decode().strip()


def ask(server, source=None):
    own = client("udp", source, server)
    own.sendto(b"?\n", endpoint(server))
    answer, sender = own.recvfrom(2048)
    return "%s from %s" % (answer.decode().strip(), shown(sender))


def ask_connected(server):
    """As `ask`, but the socket hears of ICMP errors."""
    own = client("udp", None, server)
    own.connect(endpoint(server))
    own.send(b"?\n")
    return own.recv(2048).decode().strip()


def hold(kind, address):
    """Binds and does nothing more."""
    held.append(client(kind, address))
    return shown(held[-1].getsockname())


def pid():
    return str(os.getpid())


COMMANDS = {f.__name__: f for f in (
    listen, connect, names, say, hang_up, transfer, open_udp, ask_again, ask, ask_connected, hold, pid)}

print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    try:
        print("ok", COMMANDS[words[0]](*words[1:]), flush=True)
    except socket.timeout:
        print("no timeout", flush=True)
    except OSError as error:
        print("no", errno.errorcode.get(error.errno, str(error)), flush=True)
