"""A program that does what Python statements say, one line of JSON at a time."""
import json
import sys

HELPERS = '''
import hashlib, os, random, select, socket, struct, subprocess, threading, time

ANY = "0.0.0.0"
socket.setdefaulttimeout(20)

def tcp(port=None, at=ANY):
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if port:
        own.bind((at, port))
    return own

def listener(port, at=ANY):
    own = tcp(port, at)
    own.listen(8)
    return own

def udp(port=0, at=ANY):
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if port:
        own.bind((at, port))
    return own

def bulk(seed, size):
    return random.Random(seed).randbytes(size)

def receive(own, size):
    got = bytearray()
    while len(got) < size:
        more = own.recv(1 << 20)
        if not more:
            break
        got += more
    return bytes(got)

def both_ways(own, sends, expects, size):
    """Sends one stream while it receives the other."""
    sender = threading.Thread(target=own.sendall, args=(bulk(sends, size),))
    sender.start()
    whole = receive(own, size) == bulk(expects, size)
    sender.join()
    return whole

def fast(to, data):
    """A connection with data in its SYN, and its answer; it may not be non-blocking."""
    own = tcp()
    own.settimeout(None)
    for option in socket.SO_RCVTIMEO, socket.SO_SNDTIMEO:
        own.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 20, 0))
    own.sendto(data, socket.MSG_FASTOPEN, to)
    answer = own.recv(99)
    # TCPI_OPT_SYN_DATA among the options of tcp_info (linux/tcp.h).
    options = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[5]
    own.close()
    return answer, bool(options & 32)

def refusal(doing):
    try:
        doing()
    except OSError as error:
        return os.strerror(error.errno)
    return "none"
'''

names = {}
exec(HELPERS, names)
print("ready", flush=True)
for line in sys.stdin:
    names["out"] = "done"
    try:
        exec(json.loads(line), names)
        print("ok", names["out"], flush=True)
    except OSError as error:
        print("no", repr(error), flush=True)
