"""Servers and clients of Python's library and of its tests, in pairs.

    pairs.py serve NAME BIND...          one of each kind at every address
    pairs.py ask NAME ROUNDS BIND=TARGET...  is what answers at TARGET named NAME?

Every server answers with the name that it was given. Its port says what it is and
which address it was told to bind.
"""
import asyncio
import ftplib
import http.client
import http.server
import multiprocessing.connection
import poplib
import smtpd
import smtplib
import socket
import socketserver
import sys
import threading
import time
import traceback
import wsgiref.simple_server
import xmlrpc.client
import xmlrpc.server
import asyncore

from test import test_ftplib, test_poplib

BINDS = {"0.0.0.0": 0, "::": 100, "127.0.0.1": 200, "::1": 300}
LIMIT = 10


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def of_family(server, host):
    """The same kind of socketserver for the address's family."""
    return type(server.__name__, (server,), {"address_family": family(host)})


def forever(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()


# Each pair is how to serve and how to ask; `asked` returns the name.


def serve_http(name, at):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(name.encode())

        def log_message(self, *_):
            pass

    forever(of_family(http.server.ThreadingHTTPServer, at[0])(at, Handler))


def ask_http(at):
    connection = http.client.HTTPConnection(*at, timeout=LIMIT)
    connection.request("GET", "/")
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


def serve_wsgi(name, at):
    def application(_, start):
        start("200 OK", [])
        return [name.encode()]

    class Quiet(wsgiref.simple_server.WSGIRequestHandler):
        def log_message(self, *_):
            pass

    server = of_family(wsgiref.simple_server.WSGIServer, at[0])(at, Quiet)
    server.set_app(application)
    forever(server)


def serve_xmlrpc(name, at):
    server = of_family(xmlrpc.server.SimpleXMLRPCServer, at[0])(at, logRequests=False)
    server.register_function(lambda: name, "name")
    forever(server)


def ask_xmlrpc(at):
    host = f"[{at[0]}]" if ":" in at[0] else at[0]
    with xmlrpc.client.ServerProxy(f"http://{host}:{at[1]}") as proxy:
        return proxy.name()


def serve_udp(name, at):
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request[1].sendto(name.encode(), self.client_address)

    forever(of_family(socketserver.ThreadingUDPServer, at[0])(at, Handler))


def ask_udp(at):
    with socket.socket(family(at[0]), socket.SOCK_DGRAM) as asking:
        asking.settimeout(LIMIT)
        # Connected: only an answer from the address that was asked comes in.
        asking.connect(at)
        asking.send(b"?")
        return asking.recv(64).decode()


def serve_datagrams(name, at):
    serve_udp(name, at)


def ask_datagrams(at):
    with socket.socket(family(at[0]), socket.SOCK_DGRAM) as asking:
        asking.settimeout(LIMIT)
        asked = socket.getaddrinfo(*at, family(at[0]), socket.SOCK_DGRAM)[0][4]
        asking.sendto(b"?", asked)
        answer, sender = asking.recvfrom(64)
        assert sender == asked, f"asked {asked}, answered by {sender}"
        return answer.decode()


def serve_asyncio(name, at):
    async def answer(reader, writer):
        await reader.readline()
        writer.write(name.encode())
        await writer.drain()
        writer.close()

    async def serve():
        # No address: asyncio listens at both wildcards, the IPv6 one for itself.
        host = None if at[0] in ("0.0.0.0", "::") else at[0]
        server = await asyncio.start_server(answer, host, at[1])
        ready.set()
        await server.serve_forever()

    ready = threading.Event()
    threading.Thread(target=asyncio.run, args=[serve()], daemon=True).start()
    assert ready.wait(LIMIT), f"asyncio does not listen at {at}"


def ask_asyncio(at):
    async def ask():
        reader, writer = await asyncio.open_connection(*at)
        writer.write(b"?\n")
        answer = await reader.read()
        writer.close()
        return answer.decode()

    return asyncio.run(asyncio.wait_for(ask(), LIMIT))


def serve_connection(name, at):
    listener = multiprocessing.connection.Listener(
        at, family="AF_INET", authkey=name.encode()
    )

    def serve():
        while True:
            try:
                with listener.accept() as connection:
                    connection.send(name)
            except (EOFError, OSError, multiprocessing.AuthenticationError):
                traceback.print_exc()

    threading.Thread(target=serve, daemon=True).start()


def ask_connection(at):
    # Somebody else's listener refuses the key.
    with multiprocessing.connection.Client(at, authkey=NAME.encode()) as connection:
        return connection.recv()


LOOPING = []


def loop_with(server):
    """The tests' servers are all in asyncore's one map: one of them runs it."""
    LOOPING.append(server)


def serve_ftp(name, at):
    test_ftplib.RETR_DATA = name
    loop_with(test_ftplib.DummyFTPServer(at, af=family(at[0])))


def ask_ftp(at):
    answers = set()
    for passive in (True, False):
        ftp = ftplib.FTP(timeout=LIMIT)
        ftp.connect(*at)
        ftp.login()
        ftp.set_pasv(passive)
        got = []
        ftp.retrbinary("RETR it", got.append)
        answers.add(b"".join(got).decode())
        ftp.close()
    return " and ".join(answers)


def serve_pop(name, at):
    test_poplib.RETR_RESP = f"From: {name}\r\n\r\n{name}\r\n.\r\n".encode()
    loop_with(test_poplib.DummyPOP3Server(at, family(at[0])))


def ask_pop(at):
    pop = poplib.POP3(*at, timeout=LIMIT)
    answer = pop.retr(1)[1][-1].decode()
    pop.close()
    return answer


def serve_smtp(name, at):
    class Server(smtpd.SMTPServer):
        def process_message(self, *_, **__):
            return f"250 {name}"

    map = {}
    Server(at, None, map=map)
    threading.Thread(target=asyncore.loop, args=[0.1, False, map], daemon=True).start()


def ask_smtp(at):
    smtp = smtplib.SMTP(*at, local_hostname="localhost", timeout=LIMIT)
    smtp.ehlo_or_helo_if_needed()
    smtp.mail("a@localhost")
    smtp.rcpt("b@localhost")
    answer = smtp.data("Hello")[1].decode()
    smtp.close()
    return answer


PAIRS = [
    (serve_http, ask_http),
    (serve_wsgi, ask_http),
    (serve_xmlrpc, ask_xmlrpc),
    (serve_udp, ask_udp),
    (serve_datagrams, ask_datagrams),
    (serve_asyncio, ask_asyncio),
    (serve_connection, ask_connection),
    (serve_ftp, ask_ftp),
    (serve_pop, ask_pop),
    (serve_smtp, ask_smtp),
]


def can(pair, host):
    # multiprocessing speaks IPv4 only.
    return pair[0] is not serve_connection or family(host) == socket.AF_INET


def port(pair, bind):
    # asyncio's one server has both wildcards.
    if pair[0] is serve_asyncio and bind == "::":
        bind = "0.0.0.0"
    return 9100 + BINDS[bind] + PAIRS.index(pair)


def serve(binds):
    for bind in binds:
        for pair in PAIRS:
            if not can(pair, bind) or (pair[0] is serve_asyncio and bind == "::"):
                continue
            try:
                pair[0](NAME, (bind, port(pair, bind)))
            except Exception:
                # Who asks will notice.
                traceback.print_exc()
    if LOOPING:
        LOOPING[0].start()
    print("serving", flush=True)
    while True:
        time.sleep(60)


def ask(rounds, ways):
    wrong = {}
    for number in range(rounds):
        for way in ways:
            bind, target = way.split("=")
            for pair in PAIRS:
                if not can(pair, bind) or not can(pair, target):
                    continue
                test = f"pairs.{pair[0].__name__.removeprefix('serve_')} at {bind} asked at {target}"
                if wrong.setdefault(test, ""):
                    continue
                try:
                    answer = pair[1]((target, port(pair, bind)))
                except Exception as error:
                    answer = f"{type(error).__name__}: {error}"
                if answer != NAME:
                    wrong[test] = f"{answer} in round {number}"
    for test, what in wrong.items():
        print(test, "failed" if what else "passed", what, sep="\t")


if __name__ == "__main__":
    NAME = sys.argv[2]
    if sys.argv[1] == "serve":
        serve(sys.argv[3:])
    else:
        ask(int(sys.argv[3]), sys.argv[4:])
