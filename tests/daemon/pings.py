"""A program that pings, and one that hears pings; told by one line at a time."""
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time

heard = {}
sockets = {}


def summed(message):
    total = sum(struct.unpack("!%dH" % (len(message) // 2), message))
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def request(number, sequence, data):
    message = struct.pack("!BBHHH", 8, 0, 0, number, sequence) + data
    return message[:2] + struct.pack("!H", summed(message)) + message[4:]


def hear():
    """Counts requests by who sent them, from now on."""
    own = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    def count():
        while True:
            packet, (source, _) = own.recvfrom(65535)
            if packet[20] == 8:
                heard[source] = heard.get(source, 0) + 1

    threading.Thread(target=count, daemon=True).start()
    return "hears"


def heard_from():
    """Who has asked since it was last told, and how often."""
    time.sleep(0.1)
    told = " ".join("%s:%d" % it for it in sorted(heard.items()))
    heard.clear()
    return told or "nobody"


def ping(kind, target, number, times, size="64"):
    """By one socket of each kind; how many answers came, and to which addresses."""
    kind = {"raw": socket.SOCK_RAW, "datagram": socket.SOCK_DGRAM}[kind]
    if kind not in sockets:
        sockets[kind] = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)
        sockets[kind].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    own = sockets[kind]
    wanted = struct.pack("!H", int(number))
    asked, answers, at = set(), set(), set()
    for sequence in range(int(times)):
        asked.add(sequence)
        own.sendto(request(int(number), sequence, b"x" * int(size)), (target, 0))
        limit = time.monotonic() + 3
        while sequence not in answers and time.monotonic() < limit:
            if not select.select([own], [], [], limit - time.monotonic())[0]:
                break
            packet = own.recv(65535)
            if kind == socket.SOCK_RAW:
                at.add(socket.inet_ntoa(packet[16:20]))
                packet = packet[20:]
            if packet[0] == 0 and (kind == socket.SOCK_DGRAM or packet[4:6] == wanted):
                answers.add(struct.unpack("!H", packet[6:8])[0])
    return "%d %s" % (len(asked & answers), ",".join(sorted(at)) or "-")


def run(*words):
    """A command's exit status, and what it printed on one line."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
    return "%d %s" % (done.returncode, " | ".join(done.stdout.decode().split("\n")))


COMMANDS = {f.__name__: f for f in (hear, heard_from, ping, run)}

print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    try:
        print("ok", COMMANDS[words[0]](*words[1:]), flush=True)
    except OSError as error:
        print("no", os.strerror(error.errno), flush=True)
