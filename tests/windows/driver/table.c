/*
 * Which sockets do programs under Wine have?
 *
 * Wine's owner tables, IPv4 and IPv6, TCP and UDP. Sockets of Linux programs,
 * and those that their program has closed, have owner 0 there and are left out.
 */
#define STANDIN_HELPER
#include "standin.h"
#include "table.h"
#include <ws2tcpip.h>
#include <iphlpapi.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof ((Row *)0)->key == 44, "no holes");

typedef struct {
    Row *rows;
    uint32_t count, room;
} Rows;

int table_order(const void *a, const void *b) { return memcmp(a, b, sizeof ((Row *)0)->key); }

static void from_v4(uint32_t words[4], DWORD address)
{
    memset(words, 0, 16);
    if (address) { /* the wildcard is all zero, as from WFP */
        words[0] = ntohl(address);
        words[1] = 0x0000FFFFu;
    }
}

static void from_v6(uint32_t words[4], const uint8_t *address)
{
    for (int word = 0; word < 4; word++)
        words[3 - word] = be32(address + 4 * word);
}

static void add(Rows *rows, Row row)
{
    if (!row.key.process || row.key.process == GetCurrentProcessId())
        return;
    if (rows->count == rows->room) {
        Row *more = standin_memory(2 * rows->room * (uint32_t)sizeof *more);
        if (!more)
            return;
        memcpy(more, rows->rows, rows->count * sizeof *more);
        standin_return(rows->rows);
        rows->rows = more;
        rows->room *= 2;
    }
    /* A socket of both families that talks IPv4 is an IPv4 socket to WFP. */
    if (row.key.ipv6 && row.key.local[1] == 0x0000FFFFu && !row.key.local[2] && !row.key.local[3])
        row.key.ipv6 = 0;
    rows->rows[rows->count++] = row;
}

/* One of the four tables, its memory returned by the caller; null without it. */
static void *fetch(int tcp, ULONG family)
{
    DWORD size = 1u << 14;
    for (int attempt = 0; attempt < 8; attempt++) {
        void *table = standin_memory(size);
        if (!table)
            return NULL;
        DWORD error = tcp ? GetExtendedTcpTable(table, &size, FALSE, family, TCP_TABLE_OWNER_PID_ALL, 0)
                          : GetExtendedUdpTable(table, &size, FALSE, family, UDP_TABLE_OWNER_PID, 0);
        if (error == NO_ERROR)
            return table;
        standin_return(table);
        if (error != ERROR_INSUFFICIENT_BUFFER)
            return NULL;
        size += 1u << 12;
    }
    return NULL;
}

static void finish_tcp(Rows *rows, Row row, DWORD state, DWORD process, DWORD local_port, DWORD remote_port)
{
    row.key.protocol = PROTOCOL_TCP;
    row.key.process = process;
    row.key.local_port = ntohs((u_short)local_port);
    row.key.listens = state == MIB_TCP_STATE_LISTEN;
    if (row.key.listens)
        memset(row.key.remote, 0, sizeof row.key.remote);
    else
        row.key.remote_port = ntohs((u_short)remote_port);
    if (state != MIB_TCP_STATE_TIME_WAIT && state != MIB_TCP_STATE_CLOSED)
        add(rows, row);
}

Row *table_read(uint32_t *count)
{
    Rows rows = {standin_memory(256 * sizeof(Row)), 0, 256};
    *count = 0;
    if (!rows.rows)
        return NULL;
    MIB_TCPTABLE_OWNER_PID *tcp = fetch(1, AF_INET);
    for (DWORD i = 0; tcp && i < tcp->dwNumEntries; i++) {
        const MIB_TCPROW_OWNER_PID *from = &tcp->table[i];
        Row row = {0};
        from_v4(row.key.local, from->dwLocalAddr);
        from_v4(row.key.remote, from->dwRemoteAddr);
        finish_tcp(&rows, row, from->dwState, from->dwOwningPid, from->dwLocalPort, from->dwRemotePort);
    }
    standin_return(tcp);
    MIB_TCP6TABLE_OWNER_PID *tcp6 = fetch(1, AF_INET6);
    for (DWORD i = 0; tcp6 && i < tcp6->dwNumEntries; i++) {
        const MIB_TCP6ROW_OWNER_PID *from = &tcp6->table[i];
        Row row = {.key.ipv6 = 1};
        from_v6(row.key.local, from->ucLocalAddr);
        from_v6(row.key.remote, from->ucRemoteAddr);
        finish_tcp(&rows, row, from->dwState, from->dwOwningPid, from->dwLocalPort, from->dwRemotePort);
    }
    standin_return(tcp6);
    MIB_UDPTABLE_OWNER_PID *udp = fetch(0, AF_INET);
    for (DWORD i = 0; udp && i < udp->dwNumEntries; i++) {
        Row row = {.key = {.protocol = PROTOCOL_UDP, .process = udp->table[i].dwOwningPid}};
        from_v4(row.key.local, udp->table[i].dwLocalAddr);
        row.key.local_port = ntohs((u_short)udp->table[i].dwLocalPort);
        add(&rows, row);
    }
    standin_return(udp);
    MIB_UDP6TABLE_OWNER_PID *udp6 = fetch(0, AF_INET6);
    for (DWORD i = 0; udp6 && i < udp6->dwNumEntries; i++) {
        Row row = {.key = {.protocol = PROTOCOL_UDP, .ipv6 = 1, .process = udp6->table[i].dwOwningPid}};
        from_v6(row.key.local, udp6->table[i].ucLocalAddr);
        row.key.local_port = ntohs((u_short)udp6->table[i].dwLocalPort);
        add(&rows, row);
    }
    standin_return(udp6);
    qsort(rows.rows, rows.count, sizeof(Row), table_order);
    *count = rows.count;
    return rows.rows;
}
