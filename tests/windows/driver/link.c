/*
 * How do packets get from the Linux kernel to this driver, and back?
 *
 * One loopback TCP connection to the peer, whose port is in C:\standin\port.
 * Frames: their length (4 bytes, little-endian, without itself), a letter, and
 *
 *   from the peer   P queue(1) loopback(1) 0(2) id(4) interface(4) packet
 *                   A addresses of this host, 16 bytes each (IPv4 mapped)
 *                   S (the host's sockets changed)
 *   to the peer     V queue(1) id(4) packet, or nothing if it is unchanged
 *                   D queue(1) id(4)
 *                   I packet, to be sent outbound
 *                   L text
 *
 * When the connection ends, the peer lets go all it held; a new one is tried
 * every 100 ms. Meanwhile packets pass and no handle sees them.
 */
#define STANDIN_HELPER
#include "standin.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST_FRAME (1u << 17)
#define RECEIVED (1u << 20)

static CRITICAL_SECTION out_lock;
static uint8_t *out;
static uint32_t out_length, out_room;
static SOCKET peer = INVALID_SOCKET;
static volatile uint32_t generation;
static volatile LONG stopping;
static HANDLE thread, ticker;

static uint32_t le32(const uint8_t *at) { uint32_t value; memcpy(&value, at, 4); return value; }

/* ---- to the peer ---- */

static void put(char letter, const void *head, uint32_t head_length, const void *body, uint32_t body_length)
{
    uint32_t length = 1 + head_length + body_length;
    EnterCriticalSection(&out_lock);
    if (out && out_length + 4 + length <= out_room) {
        uint8_t *at = out + out_length;
        memcpy(at, &length, 4);
        at[4] = (uint8_t)letter;
        if (head_length)
            memcpy(at + 5, head, head_length);
        if (body_length)
            memcpy(at + 5 + head_length, body, body_length);
        out_length += 4 + length;
    }
    int full = out_length > out_room / 2;
    LeaveCriticalSection(&out_lock);
    if (full)
        link_flush();
}

void link_flush(void)
{
    EnterCriticalSection(&out_lock);
    for (uint32_t sent = 0; peer != INVALID_SOCKET && sent < out_length;) {
        int now = send(peer, (const char *)out + sent, (int)(out_length - sent), 0);
        if (now <= 0)
            break; /* the reader sees it too, and starts anew */
        sent += (uint32_t)now;
    }
    out_length = 0;
    LeaveCriticalSection(&out_lock);
}

static void about(char letter, Origin origin, const uint8_t *bytes, uint32_t length)
{
    uint8_t head[5] = {origin.queue};
    if (origin.generation != generation || !origin.generation)
        return; /* of a connection that is gone: let go already */
    memcpy(head + 1, &origin.id, 4);
    put(letter, head, sizeof head, bytes, bytes ? length : 0);
}

void link_accept(Origin origin, const uint8_t *bytes, uint32_t length) { about('V', origin, bytes, length); }
void link_drop(Origin origin) { about('D', origin, NULL, 0); }
void link_inject(const uint8_t *bytes, uint32_t length) { put('I', NULL, 0, bytes, length); }

void link_log(const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length > 0)
        put('L', NULL, 0, text, (uint32_t)length < sizeof text ? (uint32_t)length : sizeof text - 1);
}

/* ---- from the peer ---- */

static void take(const uint8_t *frame, uint32_t length)
{
    switch (frame[0]) {
    case 'P':
        if (length > 13) {
            Origin origin = {generation, le32(frame + 5), frame[1]};
            line_arrived(origin, frame + 13, length - 13, frame[2], le32(frame + 9));
        }
        break;
    case 'A':
        line_host_addresses(frame + 1, (length - 1) / 16);
        break;
    case 'S':
        sockets_changed();
        break;
    default:
        break;
    }
}

static SOCKET dial(void)
{
    char text[16] = "";
    DWORD got = 0;
    HANDLE file = CreateFileA("C:\\standin\\port", GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                              NULL, OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return INVALID_SOCKET;
    ReadFile(file, text, sizeof text - 1, &got, NULL);
    CloseHandle(file);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((u_short)atoi(text))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SOCKET made = socket(AF_INET, SOCK_STREAM, 0);
    if (made == INVALID_SOCKET)
        return made;
    if (connect(made, (const struct sockaddr *)&to, sizeof to)) {
        closesocket(made);
        return INVALID_SOCKET;
    }
    BOOL yes = TRUE;
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, (const char *)&yes, sizeof yes);
    return made;
}

/* Reads frames until the connection ends. */
static void listen_to(SOCKET from, uint8_t *buffer)
{
    uint32_t have = 0;
    for (;;) {
        int got = recv(from, (char *)buffer + have, (int)(RECEIVED - have), 0);
        if (got <= 0)
            return;
        have += (uint32_t)got;
        uint32_t at = 0;
        while (have - at >= 4) {
            uint32_t length = le32(buffer + at);
            if (length == 0 || length > LARGEST_FRAME)
                return;
            if (have - at < 4 + length)
                break;
            take(buffer + at + 4, length);
            at += 4 + length;
        }
        memmove(buffer, buffer + at, have - at);
        have -= at;
        link_flush();
    }
}

static void set_peer(SOCKET now)
{
    EnterCriticalSection(&out_lock);
    peer = now;
    out_length = 0;
    LeaveCriticalSection(&out_lock);
}

static DWORD WINAPI run(void *unused)
{
    uint8_t *buffer = standin_memory(RECEIVED);
    (void)unused;
    while (!stopping && buffer) {
        SOCKET made = dial();
        if (made == INVALID_SOCKET) {
            Sleep(100);
            continue;
        }
        generation++;
        set_peer(made);
        listen_to(made, buffer);
        set_peer(INVALID_SOCKET);
        generation++;
        closesocket(made);
    }
    standin_return(buffer);
    return 0;
}

/* Everything that happens because time passes. */
static DWORD WINAPI tick(void *unused)
{
    (void)unused;
    for (uint32_t turn = 0; !stopping; turn++) {
        if (turn % 10 == 0)
            misbehave_read();
        EnterCriticalSection(&standin_lock);
        handle_tick();
        line_tick();
        LeaveCriticalSection(&standin_lock);
        link_flush();
        Sleep(5);
    }
    return 0;
}

int link_start(void)
{
    WSADATA data;
    InitializeCriticalSection(&out_lock);
    out_room = 4u << 20;
    out = standin_memory(out_room);
    if (!out || WSAStartup(0x202, &data))
        return 0;
    misbehave_read();
    thread = CreateThread(NULL, 0, run, NULL, 0, NULL);
    ticker = CreateThread(NULL, 0, tick, NULL, 0, NULL);
    return thread && ticker;
}

void link_stop(void)
{
    InterlockedExchange(&stopping, 1);
    EnterCriticalSection(&out_lock);
    if (peer != INVALID_SOCKET)
        shutdown(peer, SD_BOTH);
    LeaveCriticalSection(&out_lock);
    WaitForSingleObject(thread, 2000);
    WaitForSingleObject(ticker, 2000);
    CloseHandle(thread);
    CloseHandle(ticker);
}
