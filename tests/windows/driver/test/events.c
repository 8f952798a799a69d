/*
 * rig.exe: are socket events those of the programs, and does what shall go
 * wrong go wrong?
 */
#include "rig.h"
#include <stdio.h>
#include <string.h>

#define EVENTS "true", LAYER_SOCKET, 0, FLAG_SNIFF | FLAG_RECV_ONLY

/* The next event of a process, 0 without one. */
static int next_event(HANDLE handle, DWORD process, Address *address, DWORD wait)
{
    DWORD begin = GetTickCount();
    while (GetTickCount() - begin < wait)
        if (receive(handle, NULL, address, wait) && address->socket.process == process)
            return 1;
    return 0;
}

static void show_event(const Address *address)
{
    const SocketData *socket = &address->socket;
    say("event %u of process %u, protocol %u, %08x:%u to %08x:%u, socket %llx of %llx", address->event, socket->process,
        socket->protocol, socket->local[0], socket->local_port, socket->remote[0], socket->remote_port, socket->endpoint,
        socket->parent_endpoint);
}

static void expect_event(HANDLE handle, DWORD process, uint32_t event, uint8_t protocol, Address *address)
{
    CHECK(next_event(handle, process, address, LONG_WAIT), "no event %u of process %lu", event, process);
    if (address->event != event || address->socket.protocol != protocol)
        show_event(address);
    CHECK(address->event == event && address->layer == LAYER_SOCKET && address->socket.protocol == protocol,
          "event %u of protocol %u instead of %u", address->event, address->socket.protocol, event);
    CHECK(!address->ipv6 && address->sniffed, "flags of event %u", event);
}

static int is_zero(const uint32_t words[4]) { return !(words[0] | words[1] | words[2] | words[3]); }

static void expect_client(HANDLE events, HANDLE packets, int tcp)
{
    static uint8_t packet[PACKET_MAX];
    char command[128];
    Address bind, connect, seen, close;
    DWORD process;
    uint8_t protocol = tcp ? 6 : 17;
    snprintf(command, sizeof command, "talk.exe talk %s 10.77.0.2 7777 hello", tcp ? "tcp" : "udp");
    HANDLE program = start(command, &process);
    expect_event(events, process, EVENT_BIND, protocol, &bind);
    CHECK(is_zero(bind.socket.remote) && !bind.socket.remote_port && bind.socket.local_port && bind.outbound, "bind");
    expect_event(events, process, EVENT_CONNECT, protocol, &connect);
    CHECK(connect.socket.remote[0] == SERVER && connect.socket.remote[1] == 0xFFFF && connect.socket.remote_port == ECHO, "remote");
    CHECK(connect.socket.local_port == bind.socket.local_port && connect.socket.endpoint == bind.socket.endpoint, "one socket");
    CHECK(tcp ? connect.socket.local[0] == HOST && connect.socket.local[1] == 0xFFFF : is_zero(connect.socket.local), "local");
    do
        CHECK(receive(packets, packet, &seen, LONG_WAIT), "no packet");
    while (be16(packet + 20) != connect.socket.local_port);
    CHECK(bind.timestamp < connect.timestamp && connect.timestamp < seen.timestamp, "events come before the packet");
    WaitForSingleObject(program, LONG_WAIT);
    expect_event(events, process, EVENT_CLOSE, protocol, &close);
    CHECK(close.socket.local_port == bind.socket.local_port, "close");
    CHECK(close.socket.endpoint == bind.socket.endpoint, "close of the same socket");
    /* The endpoint's closure and the port's release; a next process may have the same id. */
    expect_event(events, process, EVENT_CLOSE, protocol, &close);
    CHECK(is_zero(close.socket.remote) && !close.socket.remote_port, "the release of the port");
    CloseHandle(program);
}

static void expect_server(HANDLE events)
{
    Address bind, listen, accept, close;
    DWORD process;
    HANDLE program = start("talk.exe serve tcp 0.0.0.0 9000 1", &process);
    expect_event(events, process, EVENT_BIND, 6, &bind);
    expect_event(events, process, EVENT_LISTEN, 6, &listen);
    CHECK(is_zero(listen.socket.local) && listen.socket.local_port == 9000 && listen.outbound, "the wildcard is all zero");
    DWORD client;
    HANDLE asking = start("talk.exe talk tcp 10.77.0.1 9000 hello", &client);
    expect_event(events, process, EVENT_ACCEPT, 6, &accept);
    CHECK(accept.socket.local[0] == HOST && accept.socket.local_port == 9000 && !accept.outbound, "accept");
    CHECK(accept.socket.remote[0] == HOST && accept.socket.remote_port, "who asked");
    CHECK(accept.socket.parent_endpoint == listen.socket.endpoint, "the listener is its parent");
    WaitForSingleObject(asking, LONG_WAIT);
    WaitForSingleObject(program, LONG_WAIT);
    int listener_closed = 0;
    while (!listener_closed) {
        expect_event(events, process, EVENT_CLOSE, 6, &close);
        listener_closed = !close.socket.remote_port;
    }
    CloseHandle(asking);
    CloseHandle(program);
}

void test_events(void)
{
    Address address;
    DWORD old;
    HANDLE before = start("talk.exe serve udp 10.77.0.101 9001 1", &old);
    Sleep(1500);
    HANDLE events = open_handle(EVENTS);
    HANDLE connects = open_handle("event == CONNECT and tcp", LAYER_SOCKET, 1, FLAG_SNIFF | FLAG_RECV_ONLY);
    HANDLE packets = open_handle("outbound and (tcp or udp) and ip.DstAddr == 10.77.0.2", LAYER_NETWORK, 0, FLAG_SNIFF | FLAG_RECV_ONLY);
    CHECK(!next_event(events, old, &address, SHORT_WAIT), "an event for a socket that was there before");
    for (int i = 0; i < 3; i++) {
        expect_client(events, packets, 1);
        expect_client(events, packets, 0);
    }
    expect_server(events);
    /* A socket of before: its ACCEPT and CLOSE are told all the same. */
    SOCKET program = udp_socket(HOST, 0);
    say_to(program, VIRTUAL, 9001, "late");
    expect_event(events, old, EVENT_ACCEPT, 17, &address);
    CHECK(address.socket.remote[0] == HOST && address.socket.local[0] == VIRTUAL && address.loopback == 0, "who asked");
    /* Its answer belongs to the same conversation: no CONNECT. */
    WaitForSingleObject(before, LONG_WAIT);
    expect_event(events, old, EVENT_CLOSE, 17, &address);
    int count = 0;
    while (receive(connects, NULL, &address, SHORT_WAIT)) {
        CHECK(address.event == EVENT_CONNECT && address.socket.protocol == 6, "event %u passed the filter", address.event);
        count++;
    }
    CHECK(count >= 4, "%d CONNECTs passed the filter", count);
    divert.close(events);
    divert.close(connects);
    divert.close(packets);
    CloseHandle(before);
}

/* ---- misbehaviour ---- */

static double milliseconds_since(int64_t timestamp)
{
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (double)(now.QuadPart - timestamp) * 1000.0 / (double)frequency.QuadPart;
}

/* How many events of a program that asks by UDP come while `text` is in force;
 * the first of them in `first`. A new handle each time: process ids come again. */
static int events_while(const char *text, Address *first)
{
    Address address;
    DWORD process;
    int count = 0;
    misbehave(text);
    HANDLE events = open_handle(EVENTS);
    HANDLE program = start("talk.exe talk udp 10.77.0.2 7777 hello", &process);
    while (next_event(events, process, &address, 2000)) {
        if (!count++) {
            *first = address;
            first->timestamp = (int64_t)milliseconds_since(address.timestamp);
        }
    }
    WaitForSingleObject(program, LONG_WAIT);
    CloseHandle(program);
    divert.close(events);
    misbehave(NULL);
    return count;
}

static void misbehave_with_events(void)
{
    Address first;
    int count = events_while(NULL, &first);
    CHECK(count == 4 && first.event == EVENT_BIND, "BIND, CONNECT and two CLOSE, not %d", count);
    CHECK(first.timestamp < 300, "an event took %lld ms", first.timestamp);
    count = events_while("events late 700\n", &first);
    CHECK(count == 4 && first.event == EVENT_BIND, "%d late events", count);
    CHECK(first.timestamp > 690 && first.timestamp < 2000, "%lld ms late", first.timestamp);
    count = events_while("events lost all\n", &first);
    CHECK(count == 0, "event %u was not lost", first.event);
    count = events_while("events lost 2\n", &first); /* others' events count too */
    CHECK(count > 0 && count < 4, "%d events of 4", count);
}

static void misbehave_with_packets(void)
{
    static uint8_t packet[PACKET_MAX];
    Address address;
    SOCKET program = udp_socket(HOST, 0);
    HANDLE handle = open_handle("outbound and udp.DstPort == 7777", LAYER_NETWORK, 0, 0);
    misbehave("queue full\n");
    say_to(program, SERVER, ECHO, "full");
    CHECK(!receive(handle, packet, &address, SHORT_WAIT) && !*hear(program, SHORT_WAIT), "the queue is full");
    misbehave("queue length 3\n");
    for (int i = 0; i < 10; i++)
        say_to(program, SERVER, ECHO, "three");
    int count = 0;
    Sleep(200);
    while (receive(handle, packet, &address, SHORT_WAIT))
        count++;
    CHECK(count == 3, "%d packets in a queue of 3", count);
    misbehave("malformed truncate 2\n");
    say_to(program, SERVER, ECHO, "0123456789");
    CHECK(receive(handle, packet, &address, LONG_WAIT) == 38, "the first is whole");
    say_to(program, SERVER, ECHO, "0123456789");
    CHECK(receive(handle, packet, &address, LONG_WAIT) == 19 && be16(packet + 2) == 38, "the second is cut");
    misbehave("malformed scramble all\n");
    say_to(program, SERVER, ECHO, "0123456789");
    uint8_t good[8] = {0x45, 0, 0, 38, 0, 0, 0x40, 0};
    uint32_t length = receive(handle, packet, &address, LONG_WAIT);
    good[4] = packet[4];
    good[5] = packet[5];
    CHECK(length == 38 && (memcmp(packet, good, 8) || memcmp(packet + 28, "0123456789", 10) || packet[8] != 128 ||
                           packet[9] != 17 || be16(packet + 24) != 18 || be32(packet + 16) != SERVER || be32(packet + 12) != HOST ||
                           be16(packet + 22) != ECHO || be16(packet + 10) != 0),
          "nothing was changed");
    misbehave(NULL);
    divert.close(handle);
}

static void misbehave_with_handles(void)
{
    static uint8_t packet[PACKET_MAX];
    Address address;
    SOCKET program = udp_socket(HOST, 0);
    static const DWORD codes[] = {ERROR_ACCESS_DENIED, 577 /* ERROR_INVALID_IMAGE_HASH */, ERROR_DRIVER_BLOCKED, ERROR_SERVICE_DISABLED};
    for (int i = 0; i < 4; i++) {
        char text[64];
        snprintf(text, sizeof text, "refuse-open %lu\n", codes[i]);
        misbehave(text);
        HANDLE refused = divert.open("true", LAYER_NETWORK, 0, 0);
        CHECK(refused == INVALID_HANDLE_VALUE && GetLastError() == codes[i], "refuse-open %lu", codes[i]);
    }
    misbehave(NULL);
    HANDLE handle = open_handle("outbound and udp.DstPort == 7777", LAYER_NETWORK, 0, 0);
    HANDLE other = open_handle("outbound and udp.DstPort == 7777", LAYER_NETWORK, -1, 0);
    OVERLAPPED overlapped = {.hEvent = CreateEventA(NULL, TRUE, FALSE, NULL)};
    UINT bytes = sizeof address;
    DWORD got;
    divert.recv_ex(other, packet, sizeof packet, NULL, 0, &address, &bytes, &overlapped);
    say_to(program, SERVER, ECHO, "queued");
    Sleep(100);
    misbehave("vanish\n");
    CHECK(!GetOverlappedResult(other, &overlapped, &got, TRUE) && GetLastError() == ERROR_DEVICE_REMOVED, "a waiting read");
    CHECK(!divert.recv(handle, packet, sizeof packet, NULL, &address) && GetLastError() == ERROR_DEVICE_REMOVED, "a read");
    CHECK(!divert.send(handle, packet, 40, NULL, &address) && GetLastError() == ERROR_DEVICE_REMOVED, "a send");
    CHECK(!strcmp(strchr(hear(program, LONG_WAIT), ' '), " queued"), "what was queued goes on");
    expect_echo(program, HOST, "alone");
    HANDLE refused = divert.open("true", LAYER_NETWORK, 0, 0);
    CHECK(refused == INVALID_HANDLE_VALUE && GetLastError() == ERROR_SERVICE_DISABLED, "opening while it is gone");
    divert.close(handle);
    divert.close(other);
    misbehave(NULL);
    divert.close(open_handle("true", LAYER_NETWORK, 0, FLAG_SNIFF));
}

void test_misbehaviour(void)
{
    misbehave_with_packets();
    misbehave_with_handles();
    misbehave_with_events();
}
