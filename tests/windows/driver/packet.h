/* What is in this packet, as the driver's own parser sees it? */
#pragma once
#include <stdint.h>

enum { PROTOCOL_ICMP = 1, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, PROTOCOL_ICMPV6 = 58 };

/* Pointers into the packet; null where it has no such header. */
typedef struct {
    const uint8_t *bytes;
    uint32_t length;
    const uint8_t *ipv4, *ipv6, *icmp, *icmpv6, *tcp, *udp;
    uint32_t network_length; /* IP header and extension headers */
    uint32_t header_length;  /* that and the transport header */
    uint8_t protocol;
    uint8_t fragment;
    uint8_t more_fragments;
    uint16_t fragment_offset;
} Packet;

static inline uint32_t be16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }
static inline uint32_t be32(const uint8_t *at) { return be16(at) << 16 | be16(at + 2); }
static inline void put16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* Reads headers; 0 where the driver would not look at it: no IP packet, or one
 * whose length is not what its header says. */
int packet_parse(Packet *packet, const uint8_t *bytes, uint32_t length);

/* The length that the packet's own header claims, 0 if it is too short or no IP. */
uint32_t packet_claimed_length(const uint8_t *bytes, uint32_t room);

/* The ports, 0 without any. */
uint16_t packet_source_port(const Packet *packet);
uint16_t packet_destination_port(const Packet *packet);

/* An address as WinDivert has it: host order, lowest word first, IPv4 mapped. */
void packet_source(const Packet *packet, uint32_t words[4]);
void packet_destination(const Packet *packet, uint32_t words[4]);
