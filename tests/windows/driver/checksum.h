/* Which checksums does a packet carry? */
#pragma once
#include "abi.h"

/* Computes in full those that `address` says are not there (flag 0), as the
 * real driver does on send: IPv4, TCP and UDP, never ICMP, no fragments. */
void checksum_complete(uint8_t *bytes, uint32_t length, const Address *address);

/* Leaves an outbound packet as a stack does that lets the NIC compute: no IPv4
 * checksum, and of TCP and UDP the sum of the pseudo-header alone. */
void checksum_leave_to_nic(uint8_t *bytes, uint32_t length);

/* Decrements TTL or hop limit; 0 where none is left to take. */
int checksum_decrement_ttl(uint8_t *bytes, uint32_t length);
