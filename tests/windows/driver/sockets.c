/*
 * Which socket events does a change of the tables, or a packet, mean?
 *
 * Windows tells WinDivert from inside bind, connect and listen. Here the owner
 * tables are compared with what they were: when the peer says that the host's
 * sockets changed (it looks every 10 ms), and before the first packet of a
 * connection or UDP socket is shown, so that BIND and CONNECT come before it as
 * on Windows. ACCEPT comes after the packet that caused it, as on Windows.
 *
 * UDP sockets have no remote end in the tables: for each new remote end that a
 * packet shows, CONNECT or ACCEPT is told, whichever way the first one went.
 */
#define STANDIN_HELPER
#include "standin.h"
#include "table.h"
#include <stdlib.h>
#include <string.h>

/* Remote ends that were told. When there are this many, they are told anew. */
#define TOLD_MOST 4096u
/* Inbound packets whose sockets are yet to be looked up. */
#define NOTES 1024u

typedef struct {
    uint32_t local[4], remote[4];
    uint16_t local_port, remote_port;
    uint8_t protocol, ipv6, unused[2]; /* compared as bytes: no holes */
} Conversation;

static CRITICAL_SECTION table_lock;
static Row *rows;
static uint32_t row_count;
static uint64_t endpoints = 0x1000;
static Conversation *told; /* in no order: there are few */
static uint32_t told_count;
static int watching;

static CRITICAL_SECTION note_lock;
static Conversation notes[NOTES];
static uint32_t note_count;
static HANDLE wake, thread;
static volatile LONG stopping;

/* ---- events ---- */

static int is_loopback(const uint32_t words[4])
{
    if (words[1] == 0x0000FFFFu && !words[2] && !words[3])
        return words[0] >> 24 == 127;
    return words[0] == 1 && !words[1] && !words[2] && !words[3];
}

static void tell(uint32_t event, const Row *row, const uint32_t remote[4], uint16_t remote_port, uint64_t parent)
{
    Address address = {.timestamp = standin_now(), .layer = LAYER_SOCKET, .event = (uint8_t)event};
    address.outbound = event != EVENT_ACCEPT && !(event == EVENT_CLOSE && row->accepted && remote_port);
    address.ipv6 = row->key.ipv6;
    address.loopback = is_loopback(row->key.local) || (remote && is_loopback(remote));
    address.socket.endpoint = row->endpoint;
    address.socket.parent_endpoint = parent;
    address.socket.process = row->key.process;
    memcpy(address.socket.local, row->key.local, 16);
    if (remote)
        memcpy(address.socket.remote, remote, 16);
    address.socket.local_port = row->key.local_port;
    address.socket.remote_port = remote_port;
    address.socket.protocol = row->key.protocol;
    EnterCriticalSection(&standin_lock);
    handle_offer_event(&address);
    LeaveCriticalSection(&standin_lock);
}

static int is_wildcard(const uint32_t words[4]) { return !(words[0] | words[1] | words[2] | words[3]); }

/* Whether a socket with this local address gets what goes to `address`. */
static int covers(const Row *row, const uint32_t address[4], int ipv6)
{
    if (is_wildcard(row->key.local)) /* [::] takes IPv4 too, unless it was told not to */
        return row->key.ipv6 || !ipv6;
    return row->key.ipv6 == ipv6 && !memcmp(row->key.local, address, 16);
}

/* The listener of a port, or the UDP socket on it; the one with that very
 * address before a wildcard. */
static Row *bound(uint8_t protocol, const uint32_t address[4], uint16_t port, int ipv6)
{
    Row *found = NULL;
    for (uint32_t i = 0; i < row_count; i++) {
        Row *row = &rows[i];
        if (row->key.protocol == protocol && row->key.local_port == port &&
            (protocol == PROTOCOL_UDP || row->key.listens) && covers(row, address, ipv6) &&
            (!found || is_wildcard(found->key.local)))
            found = row;
    }
    return found;
}

static Row *connected(const Conversation *with)
{
    for (uint32_t i = 0; i < row_count; i++)
        if (rows[i].key.protocol == with->protocol && rows[i].key.local_port == with->local_port &&
            rows[i].key.remote_port == with->remote_port && !memcmp(rows[i].key.local, with->local, 16) &&
            !memcmp(rows[i].key.remote, with->remote, 16))
            return &rows[i];
    return NULL;
}

/* Whether it is new; from now on it is not. */
static int first_of(const Conversation *with)
{
    for (uint32_t i = 0; i < told_count; i++)
        if (!memcmp(&told[i], with, sizeof *with))
            return 0;
    if (told_count == TOLD_MOST)
        told_count = 0;
    told[told_count++] = *with;
    return 1;
}

static int was_told(const Row *row)
{
    Conversation with = {.local_port = row->key.local_port, .remote_port = row->key.remote_port,
                         .protocol = row->key.protocol, .ipv6 = row->key.ipv6};
    memcpy(with.local, row->key.local, 16);
    memcpy(with.remote, row->key.remote, 16);
    for (uint32_t i = 0; i < told_count; i++)
        if (!memcmp(&told[i], &with, sizeof with))
            return 1;
    return 0;
}

static void forget_port(uint8_t protocol, uint16_t port)
{
    for (uint32_t i = 0; i < told_count;)
        if (told[i].protocol == protocol && told[i].local_port == port)
            told[i] = told[--told_count];
        else
            i++;
}

static void tell_new(Row *row)
{
    row->endpoint = endpoints += 0x10;
    if (row->key.protocol == PROTOCOL_UDP) {
        tell(EVENT_BIND, row, NULL, 0, 0);
        return;
    }
    if (row->key.listens) {
        tell(EVENT_BIND, row, NULL, 0, 0);
        tell(EVENT_LISTEN, row, NULL, 0, 0);
        return;
    }
    Row *listener = bound(PROTOCOL_TCP, row->key.local, row->key.local_port, row->key.ipv6);
    if (was_told(row)) {
        row->accepted = 1; /* when its first packet came */
    } else if (listener && listener->key.process == row->key.process) {
        row->accepted = 1;
        tell(EVENT_ACCEPT, row, row->key.remote, row->key.remote_port, listener->endpoint);
    } else {
        tell(EVENT_BIND, row, NULL, 0, 0);
        tell(EVENT_CONNECT, row, row->key.remote, row->key.remote_port, 0);
    }
}

/* Two callouts see a socket end: its endpoint's with both ends, and unless it
 * shares a listener's port the port's release. */
static void tell_gone(const Row *row)
{
    tell(EVENT_CLOSE, row, row->key.remote, row->key.remote_port, 0);
    if (!row->accepted)
        tell(EVENT_CLOSE, row, NULL, 0, 0);
}

static void take_notes(int all);

/* Reads the tables and tells what is different; `quiet`: as things were before
 * anybody asked. */
static void compare(int quiet)
{
    uint32_t count;
    Row *now = table_read(&count), *before = rows;
    if (!now)
        return;
    uint32_t had = row_count;
    /* A program that is gone from the tables may have been sent something first. */
    if (!quiet)
        take_notes(0);
    /* What stayed is known before anything is told: an accepted socket asks for
     * its listener. */
    for (uint32_t i = 0, j = 0; i < count && j < had;) {
        int order = table_order(&now[i], &before[j]);
        if (order == 0) {
            now[i].endpoint = before[j].endpoint;
            now[i].accepted = before[j].accepted;
            before[j].endpoint = 0; /* lives on */
        }
        i += order <= 0;
        j += order >= 0;
    }
    rows = now;
    row_count = count;
    for (uint32_t j = 0; j < had; j++)
        if (before[j].endpoint) {
            if (!quiet)
                tell_gone(&before[j]);
            if (before[j].key.protocol == PROTOCOL_UDP || !before[j].key.remote_port)
                forget_port(before[j].key.protocol, before[j].key.local_port);
        }
    for (int listeners = 1; listeners >= 0; listeners--)
        for (uint32_t i = 0; i < count; i++)
            if (!now[i].endpoint && now[i].key.listens == listeners) {
                if (quiet)
                    now[i].endpoint = endpoints += 0x10;
                else
                    tell_new(&now[i]);
            }
    standin_return(before);
}

/* Events of the same few milliseconds only have to be looked up once. */
static int nobody_asks(void)
{
    EnterCriticalSection(&standin_lock);
    uint32_t listeners = handle_socket_listeners();
    LeaveCriticalSection(&standin_lock);
    return !listeners;
}

void sockets_begin(void)
{
    EnterCriticalSection(&table_lock);
    if (nobody_asks()) {
        told_count = 0;
        compare(1);
    }
    watching = 1;
    LeaveCriticalSection(&table_lock);
}

/* ---- packets ---- */

static Conversation conversation_of(const Packet *packet, int inbound)
{
    Conversation with = {.protocol = packet->protocol, .ipv6 = packet->ipv6 != NULL};
    packet_source(packet, inbound ? with.remote : with.local);
    packet_destination(packet, inbound ? with.local : with.remote);
    with.local_port = inbound ? packet_destination_port(packet) : packet_source_port(packet);
    with.remote_port = inbound ? packet_source_port(packet) : packet_destination_port(packet);
    return with;
}

/* A SYN without ACK, or a datagram: what a conversation can begin with. */
static int may_begin(const Packet *packet)
{
    return packet->udp || (packet->tcp && (packet->tcp[13] & 0x12) == 0x02);
}

void sockets_before_outbound(const Packet *packet, int loopback)
{
    (void)loopback;
    if (!watching || !may_begin(packet))
        return;
    EnterCriticalSection(&table_lock);
    Conversation with = conversation_of(packet, 0);
    if (packet->tcp) {
        /* A SYN that is sent again finds its row. */
        if (!connected(&with) && !nobody_asks())
            compare(0);
    } else if (first_of(&with) && !nobody_asks()) {
        Row *row = bound(PROTOCOL_UDP, with.local, with.local_port, with.ipv6);
        if (!row) {
            compare(0);
            first_of(&with); /* compare may have forgotten it with the port's last owner */
            row = bound(PROTOCOL_UDP, with.local, with.local_port, with.ipv6);
        }
        if (row)
            tell(EVENT_CONNECT, row, with.remote, with.remote_port, 0);
    }
    LeaveCriticalSection(&table_lock);
}

void sockets_after_inbound(const Packet *packet, int loopback)
{
    (void)loopback;
    if (!watching || !may_begin(packet))
        return;
    EnterCriticalSection(&note_lock);
    if (note_count < NOTES)
        notes[note_count++] = conversation_of(packet, 1);
    LeaveCriticalSection(&note_lock);
    SetEvent(wake);
}

void sockets_changed(void)
{
    if (watching)
        SetEvent(wake);
}

static void tell_accept(const Conversation *with)
{
    Row *row = bound(with->protocol, with->local, with->local_port, with->ipv6);
    if (!row || !first_of(with))
        return;
    Row accepted = *row;
    memcpy(accepted.key.local, with->local, 16);
    accepted.key.ipv6 = with->ipv6;
    tell(EVENT_ACCEPT, &accepted, with->remote, with->remote_port, with->protocol == PROTOCOL_TCP ? row->endpoint : 0);
}

/* Takes the notes whose socket is known; `all`: the others as well. */
static void take_notes(int all)
{
    static Conversation taken[NOTES];
    uint32_t count = 0, left = 0;
    EnterCriticalSection(&note_lock);
    for (uint32_t i = 0; i < note_count; i++)
        if (all || bound(notes[i].protocol, notes[i].local, notes[i].local_port, notes[i].ipv6))
            taken[count++] = notes[i];
        else
            notes[left++] = notes[i];
    note_count = left;
    LeaveCriticalSection(&note_lock);
    for (uint32_t i = 0; i < count; i++)
        tell_accept(&taken[i]);
}

static DWORD WINAPI run(void *unused)
{
    (void)unused;
    while (!stopping) {
        WaitForSingleObject(wake, 1000);
        if (stopping || !watching)
            continue;
        EnterCriticalSection(&table_lock);
        if (nobody_asks()) {
            watching = 0;
        } else {
            compare(0);
            take_notes(1);
        }
        LeaveCriticalSection(&table_lock);
        Sleep(5); /* at most so often */
    }
    return 0;
}

int sockets_start(void)
{
    InitializeCriticalSection(&table_lock);
    InitializeCriticalSection(&note_lock);
    told = standin_memory(TOLD_MOST * sizeof *told);
    wake = CreateEventA(NULL, FALSE, FALSE, NULL);
    thread = CreateThread(NULL, 0, run, NULL, 0, NULL);
    return told && wake && thread;
}

void sockets_stop(void)
{
    InterlockedExchange(&stopping, 1);
    SetEvent(wake);
    WaitForSingleObject(thread, 2000);
    CloseHandle(thread);
}
