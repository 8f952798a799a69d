/*
 * Does the stand-in driver, below the official WinDivert.dll, do what the real
 * one does? `rig.exe SCENARIO`; says "passed SCENARIO", or where it failed.
 */
#include "rig.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

HANDLE open_handle(const char *filter, int layer, int priority, uint32_t flags)
{
    HANDLE handle = divert.open(filter, layer, (INT16)priority, flags);
    CHECK(handle != INVALID_HANDLE_VALUE, "no handle for %s", filter);
    return handle;
}

uint32_t receive(HANDLE handle, uint8_t *packet, Address *address, DWORD wait)
{
    OVERLAPPED overlapped = {.hEvent = CreateEventA(NULL, TRUE, FALSE, NULL)};
    UINT bytes = sizeof *address, length = 0;
    DWORD got = 0;
    BOOL done = divert.recv_ex(handle, packet, packet ? PACKET_MAX : 0, &length, 0, address, &bytes, &overlapped);
    if (!done) {
        CHECK(GetLastError() == ERROR_IO_PENDING, "receiving");
        if (WaitForSingleObject(overlapped.hEvent, wait) != WAIT_OBJECT_0)
            CancelIoEx(handle, &overlapped);
    }
    done = GetOverlappedResult(handle, &overlapped, &got, TRUE);
    DWORD error = GetLastError();
    CloseHandle(overlapped.hEvent);
    SetLastError(error);
    if (!done)
        CHECK(error == ERROR_OPERATION_ABORTED, "receiving");
    return !done ? 0 : packet ? got : 1;
}

void send_on(HANDLE handle, const uint8_t *packet, uint32_t length, const Address *address)
{
    UINT sent = 0;
    BOOL done = divert.send(handle, packet, length, &sent, address);
    CHECK(done && sent == length, "sent %u of %u bytes", sent, length);
}

SOCKET udp_socket(uint32_t address, uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    SOCKET made = socket(AF_INET, SOCK_DGRAM, 0);
    /* Else the programs of `start` would have it too, and Wine may say it is theirs. */
    SetHandleInformation((HANDLE)made, HANDLE_FLAG_INHERIT, 0);
    CHECK(made != INVALID_SOCKET && !bind(made, (struct sockaddr *)&at, sizeof at), "UDP port %u", port);
    return made;
}

void say_to(SOCKET from, uint32_t address, uint16_t port, const char *text)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    int sent = sendto(from, text, (int)strlen(text), 0, (struct sockaddr *)&to, sizeof to);
    CHECK(sent == (int)strlen(text), "sending %s", text);
}

const char *hear(SOCKET at, DWORD wait)
{
    static char answer[2048];
    setsockopt(at, SOL_SOCKET, SO_RCVTIMEO, (const char *)&wait, sizeof wait);
    int got = recv(at, answer, sizeof answer - 1, 0);
    answer[got > 0 ? got : 0] = 0;
    return answer;
}

static void expect_answer(SOCKET at, uint32_t seen_as, const char *text)
{
    struct in_addr address = {.s_addr = htonl(seen_as)};
    const char *answer = hear(at, LONG_WAIT), *space = strchr(answer, ' '), *colon = strchr(answer, ':');
    CHECK(space && !strcmp(space + 1, text), "asked \"%s\", got \"%s\"", text, answer);
    CHECK(colon && !strncmp(answer, inet_ntoa(address), (size_t)(colon - answer)), "seen as \"%s\"", answer);
}

void expect_echo(SOCKET from, uint32_t seen_as, const char *text)
{
    say_to(from, SERVER, ECHO, text);
    expect_answer(from, seen_as, text);
}

void misbehave(const char *text)
{
    static const char path[] = "C:\\standin\\misbehave.txt";
    if (text) {
        FILE *file = fopen(path, "wb");
        CHECK(file && fputs(text, file) >= 0 && !fclose(file), "%s", path);
    } else {
        remove(path);
    }
    Sleep(200);
}

HANDLE start(const char *command, DWORD *process)
{
    char line[512];
    STARTUPINFOA how = {.cb = sizeof how};
    PROCESS_INFORMATION made;
    snprintf(line, sizeof line, "%s", command);
    CHECK(CreateProcessA(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &how, &made), "%s", command);
    CloseHandle(made.hThread);
    keep_child(made.hProcess);
    *process = made.dwProcessId;
    return made.hProcess;
}

/* ---- what is seen by whom ---- */

void test_order(void)
{
    static uint8_t packet[PACKET_MAX];
    Address address;
    const char *filter = "outbound and udp.DstPort == 7777";
    SOCKET program = udp_socket(HOST, 0);
    HANDLE first = open_handle(filter, LAYER_NETWORK, 300, FLAG_SNIFF);
    HANDLE low = open_handle(filter, LAYER_NETWORK, 100, 0); /* order of opening must not matter */
    HANDLE high = open_handle(filter, LAYER_NETWORK, 200, 0);
    HANDLE last = open_handle(filter, LAYER_NETWORK, -50, FLAG_SNIFF);
    HANDLE inject = open_handle("false", LAYER_NETWORK, 150, FLAG_SEND_ONLY);

    say_to(program, SERVER, ECHO, "downwards");
    uint32_t length = receive(first, packet, &address, LONG_WAIT);
    CHECK(length == 28 + 9 && address.sniffed && address.outbound && !address.loopback, "%u bytes", length);
    length = receive(high, packet, &address, LONG_WAIT);
    CHECK(length == 28 + 9 && !address.sniffed, "%u bytes", length);
    CHECK(!receive(low, packet, &address, SHORT_WAIT), "a lower handle saw it before it was sent on");
    CHECK(!receive(last, packet, &address, SHORT_WAIT), "a lower handle sniffed it before it was sent on");
    say_to(program, SERVER, ECHO, "downwards");
    length = receive(high, packet, &address, LONG_WAIT);
    int64_t before = address.timestamp;
    send_on(high, packet, length, &address);
    length = receive(low, packet, &address, LONG_WAIT);
    CHECK(length && address.timestamp > before, "a time of its own for each handle");
    send_on(low, packet, length, &address);
    length = receive(last, packet, &address, LONG_WAIT);
    CHECK(length && address.sniffed && !memcmp(packet + 28, "downwards", 9), "%u bytes", length);
    expect_answer(program, HOST, "downwards");
    CHECK(receive(first, packet, &address, LONG_WAIT), "the second packet");
    CHECK(!receive(first, packet, &address, SHORT_WAIT), "what is sent on was seen higher up");

    say_to(program, SERVER, ECHO, "between");
    length = receive(high, packet, &address, LONG_WAIT);
    send_on(inject, packet, length, &address);
    length = receive(low, packet, &address, LONG_WAIT);
    CHECK(length, "a packet injected at 150 is seen at 100");
    divert.close(low);
    divert.close(high);
    send_on(inject, packet, length, &address);
    CHECK(receive(last, packet, &address, LONG_WAIT), "and at -50");
    expect_answer(program, HOST, "between");

    HANDLE drop = open_handle("udp.DstPort == 7777 and udp.PayloadLength == 4", LAYER_NETWORK, 0, FLAG_DROP);
    say_to(program, SERVER, ECHO, "drop");
    CHECK(!*hear(program, SHORT_WAIT), "a dropped packet was answered");
    while (receive(last, packet, &address, SHORT_WAIT))
        CHECK(memcmp(packet + 28, "drop", 4), "seen below the handle that drops it");
    expect_echo(program, HOST, "other");
    divert.close(drop);
    divert.close(first);
    divert.close(last);
    divert.close(inject);
}

void test_loopback(void)
{
    static uint8_t packet[PACKET_MAX];
    Address address;
    SOCKET server = udp_socket(INADDR_ANY, 9100), program = udp_socket(INADDR_ANY, 0);
    HANDLE handle = open_handle("udp.DstPort == 9100", LAYER_NETWORK, 0, 0);
    static const uint32_t targets[] = {INADDR_LOOPBACK, HOST, VIRTUAL};
    for (int i = 0; i < 3; i++) {
        say_to(program, targets[i], 9100, "local");
        uint32_t length = receive(handle, packet, &address, LONG_WAIT);
        CHECK(length && address.outbound && address.loopback, "target %d", i);
        send_on(handle, packet, length, &address);
        CHECK(!strcmp(hear(server, LONG_WAIT), "local"), "target %d", i);
        CHECK(!receive(handle, packet, &address, SHORT_WAIT), "target %d was seen twice", i);
    }
    /* From one local address to another, still outbound. */
    say_to(program, HOST, 9100, "moved");
    uint32_t length = receive(handle, packet, &address, LONG_WAIT);
    packet[19] = 101;
    send_on(handle, packet, length, &address);
    CHECK(!strcmp(hear(server, LONG_WAIT), "moved"), "to another local address");
    /* Sent inbound, local traffic vanishes without an error. */
    say_to(program, HOST, 9100, "wrong way");
    length = receive(handle, packet, &address, LONG_WAIT);
    address.outbound = 0;
    send_on(handle, packet, length, &address);
    CHECK(!*hear(server, SHORT_WAIT), "local traffic sent inbound arrived");
    divert.close(handle);
}

void test_checksums(void)
{
    static uint8_t packet[PACKET_MAX], whole[PACKET_MAX];
    Address address;
    SOCKET program = udp_socket(HOST, 0);
    HANDLE handle = open_handle("udp.DstPort == 7777 or udp.SrcPort == 7777", LAYER_NETWORK, 0, 0);

    say_to(program, SERVER, ECHO, "offload");
    uint32_t length = receive(handle, packet, &address, LONG_WAIT);
    CHECK(!address.ip_checksum && !address.tcp_checksum && !address.udp_checksum, "flags of an outbound packet");
    uint32_t sum = 17 + (length - 20);
    for (int at = 12; at < 20; at += 2)
        sum += be16(packet + at);
    sum = (sum & 0xFFFF) + (sum >> 16);
    CHECK(be16(packet + 10) == 0 && be16(packet + 26) == sum, "the sum of the pseudo-header alone");
    send_on(handle, packet, length, &address);
    length = receive(handle, packet, &address, LONG_WAIT);
    CHECK(!address.outbound && !address.ip_checksum && !address.udp_checksum, "flags of an inbound packet");
    memcpy(whole, packet, length);
    divert.calc_checksums(whole, length, NULL, 0);
    CHECK(!memcmp(whole, packet, length), "an inbound packet's checksums are whole");
    packet[28] ^= 0; /* unchanged; the driver computes anew */
    put16(packet + 26, 0x1234);
    send_on(handle, packet, length, &address);
    expect_answer(program, HOST, "offload");

    say_to(program, SERVER, ECHO, "wrong");
    length = receive(handle, packet, &address, LONG_WAIT);
    address.ip_checksum = address.udp_checksum = 1;
    divert.calc_checksums(packet, length, NULL, 0);
    put16(packet + 26, be16(packet + 26) ^ 0x5555);
    send_on(handle, packet, length, &address);
    CHECK(!receive(handle, packet, &address, SHORT_WAIT), "a wrong checksum that was called right was answered");

    misbehave("offload off\n");
    say_to(program, SERVER, ECHO, "none");
    length = receive(handle, packet, &address, LONG_WAIT);
    CHECK(address.ip_checksum && address.tcp_checksum && address.udp_checksum, "flags without offload");
    memcpy(whole, packet, length);
    divert.calc_checksums(whole, length, NULL, 0);
    CHECK(!memcmp(whole, packet, length), "checksums without offload");
    misbehave(NULL);
    divert.close(handle);
}

/* ---- the queue ---- */

static uint32_t drain(HANDLE handle, uint8_t *first_text)
{
    static uint8_t packets[1 << 20];
    static Address addresses[BATCH_MAX];
    uint32_t count = 0;
    for (;;) {
        OVERLAPPED overlapped = {.hEvent = CreateEventA(NULL, TRUE, FALSE, NULL)};
        UINT bytes = sizeof addresses;
        DWORD got;
        divert.recv_ex(handle, packets, sizeof packets, NULL, 0, addresses, &bytes, &overlapped);
        if (WaitForSingleObject(overlapped.hEvent, SHORT_WAIT) != WAIT_OBJECT_0)
            CancelIoEx(handle, &overlapped);
        BOOL done = GetOverlappedResult(handle, &overlapped, &got, TRUE);
        CloseHandle(overlapped.hEvent);
        if (!done)
            return count;
        if (!count && first_text)
            memcpy(first_text, packets + 28, 8);
        count += bytes / (uint32_t)sizeof(Address);
        for (uint32_t i = 1; i < bytes / sizeof(Address); i++)
            CHECK(addresses[i].timestamp > addresses[i - 1].timestamp, "times are in order and differ");
    }
}

static void burst(SOCKET from, uint32_t count)
{
    char text[16];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%08u", i);
        say_to(from, SERVER, SINK, text);
    }
    Sleep(SHORT_WAIT);
}

void test_queue(void)
{
    uint8_t text[9] = {0};
    UINT64 value = 0;
    SOCKET program = udp_socket(HOST, 0);
    HANDLE handle = open_handle("udp.DstPort == 7779", LAYER_NETWORK, 0, 0);
    static const struct {
        int param;
        UINT64 standard, lowest, largest;
    } params[] = {{PARAM_LENGTH, 4096, 32, 16384}, {PARAM_TIME, 2000, 100, 16000}, {PARAM_SIZE, 4194304, 65535, 33554432}};
    for (int i = 0; i < 3; i++) {
        CHECK(divert.get_param(handle, params[i].param, &value) && value == params[i].standard, "default of %d: %llu", i, value);
        CHECK(!divert.set_param(handle, params[i].param, params[i].lowest - 1) && GetLastError() == ERROR_INVALID_PARAMETER, "%d", i);
        CHECK(!divert.set_param(handle, params[i].param, params[i].largest + 1) && GetLastError() == ERROR_INVALID_PARAMETER, "%d", i);
        CHECK(divert.set_param(handle, params[i].param, params[i].largest), "largest of %d", i);
        CHECK(divert.get_param(handle, params[i].param, &value) && value == params[i].largest, "%d: %llu", i, value);
    }
    CHECK(divert.get_param(handle, PARAM_MAJOR, &value) && value == 2, "major");
    CHECK(divert.get_param(handle, PARAM_MINOR, &value) && value == 2, "minor");

    burst(program, 300);
    uint32_t count = drain(handle, text);
    CHECK(count == 300 && !strcmp((char *)text, "00000000"), "%u packets from %s", count, text);
    divert.set_param(handle, PARAM_LENGTH, 32);
    burst(program, 100);
    count = drain(handle, text);
    CHECK(count == 32 && !strcmp((char *)text, "00000068"), "LENGTH keeps the newest: %u packets from %s", count, text);
    divert.set_param(handle, PARAM_LENGTH, 16384);
    divert.set_param(handle, PARAM_SIZE, 65535);
    burst(program, 1000); /* each counts 63 bytes more than its 36 */
    count = drain(handle, NULL);
    CHECK(count == 65535 / (36 + 63), "SIZE holds %u packets", count);
    divert.set_param(handle, PARAM_TIME, 100);
    burst(program, 10);
    count = drain(handle, NULL);
    CHECK(count == 0, "%u packets are older than TIME", count);
    divert.close(handle);
}

/* Shutdown, close, and packets that never come back. */
void test_ends(void)
{
    static uint8_t packet[PACKET_MAX];
    Address address;
    SOCKET program = udp_socket(HOST, 0);
    HANDLE handle = open_handle("outbound and udp.DstPort == 7777", LAYER_NETWORK, 0, 0);

    say_to(program, SERVER, ECHO, "left");
    Sleep(100);
    CHECK(divert.shutdown(handle, SHUTDOWN_RECV), "shutdown");
    expect_echo(program, HOST, "past it");
    UINT length = 0;
    CHECK(divert.recv(handle, packet, sizeof packet, &length, &address) && length == 32, "what was queued is still given");
    CHECK(!divert.recv(handle, packet, sizeof packet, NULL, &address) && GetLastError() == ERROR_NO_DATA, "then 232");
    send_on(handle, packet, length, &address);
    expect_answer(program, HOST, "left");
    CHECK(divert.shutdown(handle, SHUTDOWN_SEND), "shutdown");
    CHECK(!divert.send(handle, packet, length, NULL, &address) && GetLastError() == ERROR_NO_DATA, "232 for send");
    divert.close(handle);

    handle = open_handle("outbound and udp.DstPort == 7777", LAYER_NETWORK, 0, 0);
    OVERLAPPED overlapped = {.hEvent = CreateEventA(NULL, TRUE, FALSE, NULL)};
    UINT bytes = sizeof address;
    DWORD got;
    divert.recv_ex(handle, packet, sizeof packet, NULL, 0, &address, &bytes, &overlapped);
    CHECK(divert.shutdown(handle, SHUTDOWN_RECV | SHUTDOWN_SEND), "shutdown");
    CHECK(!GetOverlappedResult(handle, &overlapped, &got, TRUE) && GetLastError() == ERROR_NO_DATA, "a waiting read ends with 232");
    divert.close(handle);

    handle = open_handle("outbound and udp.DstPort == 7777", LAYER_NETWORK, 0, 0);
    say_to(program, SERVER, ECHO, "read");
    CHECK(receive(handle, packet, &address, LONG_WAIT) == 32, "read");
    say_to(program, SERVER, ECHO, "unread");
    Sleep(100);
    divert.close(handle);
    expect_answer(program, HOST, "unread");
    CHECK(!*hear(program, SHORT_WAIT), "a packet that was read and never sent went on");
    expect_echo(program, HOST, "after");
}

void test_errors(void)
{
    static uint8_t packet[PACKET_MAX];
    Address address = {0}, many[2];
    UINT length = 0, bytes;
    static const struct {
        const char *filter;
        int layer;
        uint32_t flags;
        DWORD error;
    } refused[] = {
        {"true", LAYER_SOCKET, FLAG_SNIFF, ERROR_INVALID_PARAMETER},       /* needs RECV_ONLY */
        {"true", LAYER_NETWORK, FLAG_SNIFF | FLAG_DROP, ERROR_INVALID_PARAMETER},
        {"tcp and", LAYER_NETWORK, 0, ERROR_INVALID_PARAMETER},            /* no filter */
        {"random8 < 128", LAYER_NETWORK, 0, ERROR_INVALID_PARAMETER},      /* not in the stand-in */
        {"true", LAYER_FLOW, FLAG_SNIFF | FLAG_RECV_ONLY, ERROR_NOT_SUPPORTED},
        {"true", LAYER_SOCKET, FLAG_RECV_ONLY, ERROR_NOT_SUPPORTED},       /* would have to block */
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        HANDLE handle = divert.open(refused[i].filter, refused[i].layer, 0, refused[i].flags);
        CHECK(handle == INVALID_HANDLE_VALUE && GetLastError() == refused[i].error, "%s, layer %d", refused[i].filter, refused[i].layer);
    }
    HANDLE handle = open_handle("false", LAYER_NETWORK, 0, FLAG_SEND_ONLY);
    CHECK(!divert.recv(handle, packet, sizeof packet, &length, &address) && GetLastError() == ERROR_INVALID_PARAMETER, "SEND_ONLY");
    CHECK(!divert.send(handle, packet, 19, &length, &address) && GetLastError() == ERROR_INSUFFICIENT_BUFFER, "too short");
    memset(packet, 0, 40);
    CHECK(!divert.send(handle, packet, 40, &length, &address) && GetLastError() == ERROR_INVALID_PARAMETER, "no IP packet");
    divert.close(handle);
    handle = open_handle("udp.DstPort == 7777", LAYER_NETWORK, 0, FLAG_RECV_ONLY);
    packet[0] = 0x45;
    put16(packet + 2, 40);
    CHECK(!divert.send(handle, packet, 40, &length, &address) && GetLastError() == ERROR_INVALID_PARAMETER, "RECV_ONLY");
    bytes = 79;
    CHECK(!divert.recv_ex(handle, packet, sizeof packet, &length, 0, many, &bytes, NULL) && GetLastError() == ERROR_INVALID_PARAMETER, "room for no address");
    SOCKET program = udp_socket(HOST, 0);
    say_to(program, SERVER, ECHO, "longer than the room");
    CHECK(!divert.recv(handle, packet, 30, &length, &address) && GetLastError() == ERROR_INSUFFICIENT_BUFFER, "too little room");
    CHECK(!receive(handle, packet, &address, SHORT_WAIT), "the rest of it is lost");
    divert.close(handle);
}

static uint32_t make_datagram(uint8_t *packet, uint32_t from, uint16_t from_port, uint8_t ttl, const char *text)
{
    uint32_t length = 28 + (uint32_t)strlen(text), to = SERVER;
    memset(packet, 0, 28);
    packet[0] = 0x45;
    put16(packet + 2, length);
    packet[8] = ttl;
    packet[9] = 17;
    put16(packet + 12, from >> 16);
    put16(packet + 14, from);
    put16(packet + 16, to >> 16);
    put16(packet + 18, to);
    put16(packet + 20, from_port);
    put16(packet + 22, ECHO);
    put16(packet + 24, length - 20);
    memcpy(packet + 28, text, strlen(text));
    return length;
}

/* Packets that were never captured. */
void test_fabricated(void)
{
    uint8_t packet[64];
    Address address = {.outbound = 1};
    SOCKET program = udp_socket(HOST, 40000);
    HANDLE handle = open_handle("false", LAYER_NETWORK, 0, FLAG_SEND_ONLY);
    uint32_t length = make_datagram(packet, HOST, 40000, 64, "made up");
    send_on(handle, packet, length, &address);
    expect_answer(program, HOST, "made up");
    length = make_datagram(packet, 0x0A4D00FEu, 40000, 64, "stranger");
    send_on(handle, packet, length, &address); /* succeeds, and never leaves */
    address.impostor = 1;
    length = make_datagram(packet, HOST, 40000, 1, "tired");
    CHECK(!divert.send(handle, packet, length, NULL, &address) && GetLastError() == ERROR_HOST_UNREACHABLE, "an impostor with TTL 1");
    length = make_datagram(packet, HOST, 40000, 2, "fresh");
    send_on(handle, packet, length, &address);
    expect_answer(program, HOST, "fresh");
    address.impostor = address.outbound = 0;
    CHECK(!divert.send(handle, packet, length, NULL, &address) && GetLastError() == ERROR_INVALID_PARAMETER, "inbound by no interface");
    CHECK(!*hear(program, SHORT_WAIT), "something else arrived");
    divert.close(handle);
}

int main(int count, char **words)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } scenarios[] = {
        {"filters", test_filters}, {"order", test_order}, {"loopback", test_loopback}, {"checksums", test_checksums},
        {"queue", test_queue}, {"ends", test_ends}, {"errors", test_errors}, {"fabricated", test_fabricated},
        {"events", test_events}, {"misbehaviour", test_misbehaviour}, {"rate", test_rate}, {"rewrite", rewrite},
    };
    WSADATA data;
    WSAStartup(0x202, &data);
    divert_load();
    int known = count > 1;
    for (int word = 1; word < count; word++) {
        int found = 0;
        for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
            if (!strcmp(words[word], scenarios[i].name)) {
                scenarios[i].run();
                say("passed %s", words[word]);
                found = 1;
            }
        known &= found;
    }
    if (!known)
        say("FAILED: usage: rig SCENARIO..");
    return !known;
}
