/*
 * rig.exe: does whole traffic work, and how fast?
 */
#include "rig.h"
#include <stdio.h>
#include <string.h>

static uint8_t packets[1 << 20];
static Address addresses[BATCH_MAX];

static uint32_t claimed(const uint8_t *packet)
{
    return be16(packet + 2); /* the filters here let IPv4 through alone */
}

/* Every program's traffic to the server appears as the virtual address's, until
 * standard input ends. */
static DWORD WINAPI end_with_input(void *handle)
{
    while (getchar() != EOF)
        ;
    divert.shutdown(handle, SHUTDOWN_RECV);
    return 0;
}

void rewrite(void)
{
    HANDLE handle = open_handle("(outbound and !loopback and ip.SrcAddr == 10.77.0.1 and ip.DstAddr == 10.77.0.2 and (tcp or udp)) or "
                                "(inbound and ip.SrcAddr == 10.77.0.2 and ip.DstAddr == 10.77.0.101)",
                                LAYER_NETWORK, 1000, 0);
    HANDLE inject = open_handle("false", LAYER_NETWORK, 999, FLAG_SEND_ONLY);
    UINT bytes, sent, length = 0, rewritten = 0;
    CreateThread(NULL, 0, end_with_input, handle, 0, NULL);
    say("rewriting");
    for (;;) {
        bytes = sizeof addresses;
        if (!divert.recv_ex(handle, packets, sizeof packets, &length, 0, addresses, &bytes, NULL)) {
            CHECK(GetLastError() == ERROR_NO_DATA, "receiving");
            break;
        }
        uint8_t *at = packets;
        for (uint32_t i = 0; i < bytes / sizeof(Address); i++, rewritten++) {
            at[addresses[i].outbound ? 15 : 19] = addresses[i].outbound ? 101 : 1;
            at += claimed(at);
            addresses[i].ip_checksum = addresses[i].tcp_checksum = addresses[i].udp_checksum = 0;
        }
        CHECK(at == packets + length, "a batch ends where its packets end");
        CHECK(divert.send_ex(inject, packets, length, &sent, 0, addresses, bytes, NULL) && sent == length, "sending");
    }
    divert.close(handle);
    divert.close(inject);
    say("rewrote %u packets", rewritten);
}

#define RATE_PACKETS 8000u

static DWORD WINAPI send_many(void *count)
{
    char text[72] = "";
    SOCKET program = udp_socket(HOST, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(SINK), .sin_addr.s_addr = htonl(SERVER)};
    for (uint32_t i = 0; i < *(uint32_t *)count; i++) {
        sendto(program, text, sizeof text, 0, (struct sockaddr *)&to, sizeof to);
        if (i % 64 == 63)
            Sleep(1); /* the queue holds 16384: lag would hide the rate */
    }
    return 0;
}

/* The next batch if one comes soon; its bytes, 0 without one. */
static UINT next_batch(HANDLE handle, UINT *address_bytes)
{
    /* Wine copies all the room there is, not what was received. */
    UINT room = *address_bytes / (UINT)sizeof(Address) * 1500;
    OVERLAPPED overlapped = {.hEvent = CreateEventA(NULL, TRUE, FALSE, NULL)};
    DWORD length = 0;
    BOOL done = divert.recv_ex(handle, packets, room, NULL, 0, addresses, address_bytes, &overlapped);
    if (!done && WaitForSingleObject(overlapped.hEvent, LONG_WAIT) != WAIT_OBJECT_0)
        CancelIoEx(handle, &overlapped);
    if (!GetOverlappedResult(handle, &overlapped, &length, TRUE))
        length = 0;
    CloseHandle(overlapped.hEvent);
    return length;
}

static double run_rate(HANDLE handle, uint32_t count, UINT batch)
{
    LARGE_INTEGER begin = {0}, end = {0}, frequency;
    uint32_t done = 0;
    HANDLE thread = CreateThread(NULL, 0, send_many, &count, 0, NULL);
    QueryPerformanceFrequency(&frequency);
    while (done < count) {
        UINT bytes = batch * (UINT)sizeof(Address), length = next_batch(handle, &bytes), sent;
        if (!length)
            break;
        if (!done)
            QueryPerformanceCounter(&begin);
        CHECK(divert.send_ex(handle, packets, length, &sent, 0, addresses, bytes, NULL), "sending");
        done += bytes / (UINT)sizeof(Address);
        QueryPerformanceCounter(&end);
    }
    CHECK(done == count, "%u of %u packets came", done, count);
    WaitForSingleObject(thread, LONG_WAIT);
    CloseHandle(thread);
    return done * (double)frequency.QuadPart / (double)(end.QuadPart - begin.QuadPart);
}

void test_rate(void)
{
    HANDLE handle = open_handle("udp.DstPort == 7779", LAYER_NETWORK, 0, 0);
    divert.set_param(handle, PARAM_LENGTH, 16384);
    divert.set_param(handle, PARAM_TIME, 16000);
    double many = run_rate(handle, RATE_PACKETS, BATCH_MAX), single = run_rate(handle, RATE_PACKETS / 10, 1);
    say("%.0f packets/s in batches, %.0f one by one", many, single);
    CHECK(many > 300, "too slow to be of use");
    divert.close(handle);
}
