/* Which sockets do programs under Wine have? */
#pragma once
#include <stdint.h>

typedef struct {
    /* What makes it this socket. Compared as bytes: no holes. */
    struct {
        uint32_t local[4], remote[4]; /* as WinDivert has them */
        uint32_t process;
        uint16_t local_port, remote_port;
        uint8_t protocol, ipv6, listens, unused;
    } key;
    uint64_t endpoint; /* 0 until it is known to sockets.c */
    uint8_t accepted;
} Row;

/* All sockets of processes but this one, in the order of their keys. Returned
 * with standin_return. */
Row *table_read(uint32_t *count);
int table_order(const void *a, const void *b);
