/* What do the scenarios of rig.exe need of each other? */
#pragma once
#include <winsock2.h>
#include <ws2tcpip.h>
#include "divert.h"
#include "../packet.h"

/* The network that tests/windows/peer/tests/rig.rs makes. */
#define HOST 0x0A4D0001u    /* 10.77.0.1 */
#define VIRTUAL 0x0A4D0065u /* 10.77.0.101 */
#define SERVER 0x0A4D0002u  /* 10.77.0.2 */
#define ECHO 7777           /* answers "ADDRESS:PORT text", TCP and UDP */
#define SINK 7779           /* takes and says nothing */

#define SHORT_WAIT 300
#define LONG_WAIT 5000

HANDLE open_handle(const char *filter, int layer, int priority, uint32_t flags);
/* The next packet or event within `wait` milliseconds, 0 without one; the bytes
 * received, or 1 for an event. */
uint32_t receive(HANDLE handle, uint8_t *packet, Address *address, DWORD wait);
void send_on(HANDLE handle, const uint8_t *packet, uint32_t length, const Address *address);

SOCKET udp_socket(uint32_t address, uint16_t port);
void say_to(SOCKET from, uint32_t address, uint16_t port, const char *text);
/* The answer within `wait`, "" without one. */
const char *hear(SOCKET at, DWORD wait);
/* Sends `text` to the echo server and fails unless it answers that `from` asked. */
void expect_echo(SOCKET from, uint32_t seen_as, const char *text);

/* C:\standin\misbehave.txt; null removes it. Returns when the driver has read it. */
void misbehave(const char *text);
/* Starts a program beside this one. */
HANDLE start(const char *command, DWORD *process);

void test_filters(void);
void test_order(void);
void test_loopback(void);
void test_checksums(void);
void test_queue(void);
void test_ends(void);
void test_errors(void);
void test_fabricated(void);
void test_events(void);
void test_misbehaviour(void);
void test_rate(void);
void rewrite(void);
