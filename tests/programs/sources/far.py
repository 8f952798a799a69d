"""The far side of clients that say a word: who said it?

By TCP at PORT, also in the SYN (RFC 7413); by Multipath TCP at PORT + 1; by UDP at
PORT + 2. A connection that says so stays for a while, to find further paths.
"""
import socket
import sys
import threading
import time

PORT = int(sys.argv[1])
TCP_FASTOPEN, IPPROTO_MPTCP = 23, 262


def tell(heard, who):
    host = who[0].removeprefix("::ffff:")
    host = "[%s]" % host if ":" in host else host
    print("%s %s:%d" % (heard.decode().strip(), host, who[1]), flush=True)


def opened(kind, protocol, port):
    own = socket.socket(socket.AF_INET6, kind, protocol)
    own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    own.bind(("::", port))
    return own


def answer(connection, who):
    heard = connection.recv(99)
    tell(heard, who)
    if heard.startswith(b"stay-"):
        time.sleep(3)
    connection.close()


def serve(listener):
    listener.listen(16)
    while True:
        threading.Thread(target=answer, args=listener.accept(), daemon=True).start()


fast = opened(socket.SOCK_STREAM, 0, PORT)
fast.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
threading.Thread(target=serve, args=(fast,), daemon=True).start()
multipath = opened(socket.SOCK_STREAM, IPPROTO_MPTCP, PORT + 1)
threading.Thread(target=serve, args=(multipath,), daemon=True).start()
datagrams = opened(socket.SOCK_DGRAM, 0, PORT + 2)
print("ready", flush=True)
while True:
    tell(*datagrams.recvfrom(99))
